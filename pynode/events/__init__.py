"""Events: where g(t, y; theta) = 0. Find them, stop or jump there, and differentiate through their times.

The core ends a sample at its first event (csrc/events/events.inl); this package goes on from there, all samples of a
round at once, as long as one has an event that is not terminal. A stretch between two events is a plain solve that
lands on its last time, so its discrete adjoint is exact. With Y(t*, p) the state at the end of a stretch whose last
step ends at t*, p its initial state, initial time and theta, and y+ = R(t*, y*; theta) the reset,

    g(t*, Y(t*, p); theta) = 0   =>   dt* = -(g_y dY + g_theta dtheta) / D,   D = g_t + g_y dY/dt*

so cotangents a of y+, b of y*, tau of t* go back as (saltation; Barton & Lee 2002, ACM TOMACS 12; Corner et al. 2019)

    b += a R_y,   tau += a R_t,   mu = tau + b dY/dt*,   b <- b - (mu / D) g_y,   gtheta += a R_theta - (mu / D) g_theta

dY/dt* being the derivative of the last step with respect to its length: that of the numbers computed, steps frozen.
"""
