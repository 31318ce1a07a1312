// Texts that the field editor begins with: name -> [text, last time].
export const EXAMPLES = new Map([
  ["Van der Pol", ["# it feeds itself: a limit cycle\nx' = v\nv' = mu*(1 - x^2)*v - x + u\nmu = 1 in [0, 5]\nu = 0\nx(0) = 0.5\nv(0) = 0", 20]],
  ["Decay", ["y' = -k*y\nk = 2 in [0, 5]\ny(0) = 1", 3]],
  ["Damped oscillator", ["x' = v\nv' = -k*x - c*v\nk = 1 in [0, 4]\nc = 0.5 in [0, 2]\nx(0) = 1\nv(0) = 0", 20]],
  ["Pendulum, pushed", ["q' = w\nw' = -sin(q) - 0.1*w + push\npush = where(t < 10, a*cos(0.8*t), 0)\na = 0.5 in [0, 2]\nq(0) = 0.2\nw(0) = 0", 40]],
  ["Hares and lynxes", ["H' = a*H - b*H*L\nL' = c*b*H*L - d*L\na = 1\nb = 0.5\nc = 0.6\nd = 0.8\nH(0) = 2\nL(0) = 1", 30]],
  ["An epidemic", ["new = beta*S*I\nS' = -new\nI' = new - gamma*I\nR' = gamma*I\nbeta = 0.6\ngamma = 0.2\nS(0) = 0.99\nI(0) = 0.01\nR(0) = 0", 60]],
  ["Lorenz", ["x' = s*(y - x)\ny' = x*(r - z) - y\nz' = x*y - b*z\ns = 10\nr = 28\nb = 2.6667\nx(0) = 1\ny(0) = 1\nz(0) = 20", 20]],
  ["A network", ["# random weights, 8 hidden units\nx' = net(x, v; 8)\nv' = net(x, v; 8) - 0.2*v\nx(0) = 1\nv(0) = 0", 20]],
  ["Known law and a network", ["# a spring with unknown friction\nx' = v\nv' = -k*x - net(v; 8)*v\nk = 1 in [0, 4]\nx(0) = 1\nv(0) = 0", 20]],
  ["Stiff", ["# fast to the cosine, then along it\ny' = -rate*(y - cos(t))\nrate = 1000 in [1, 10000]\ny(0) = 2", 10]],
]);
