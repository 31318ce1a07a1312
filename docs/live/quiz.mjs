// The quiz: questions and reasons are those of the Python package, put into the page when it was built.
import { begin, byId, say } from "./live.mjs";

class Quiz {
  constructor(questions) {
    this.questions = questions;
    byId("back").addEventListener("click", () => this.show(this.at - 1));
    byId("next").addEventListener("click", () => this.show(this.at + 1));
    byId("again").addEventListener("click", () => this.reset());
    document.addEventListener("keydown", (event) => this.key(event));
    this.reset();
  }

  reset() {
    this.answers = this.questions.map(() => []);
    this.show(0, false); // inside another page, a focus would scroll that one
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const name = event.key.toLowerCase();
    if (name in this.questions[this.at].options) this.answer(name);
    else if (name === "arrowright") this.show(this.at + 1);
    else if (name === "arrowleft") this.show(this.at - 1);
    else return;
    event.preventDefault();
  }

  answer(letter) {
    if (!this.answers[this.at].includes(letter)) this.answers[this.at].push(letter);
    this.draw(letter);
  }

  /** Question number `at`, from 0. */
  show(at, focus = true) {
    if (at < 0 || at >= this.questions.length) return;
    this.at = at;
    this.draw();
    if (focus) byId("number").focus();
  }

  draw(last) {
    const { questions, at } = this;
    byId("number").textContent = `Question ${at + 1} of ${questions.length}`;
    byId("question").innerHTML = questions[at].question;
    byId("options").replaceChildren(...Object.keys(questions[at].options).map((letter) => this.option(letter)));
    byId("steps").replaceChildren(...questions.map((_, i) => this.stepButton(i)));
    byId("back").disabled = at === 0;
    byId("next").disabled = at === questions.length - 1;
    if (last) byId(`option-${last}`).focus();
    this.tell(last);
  }

  option(letter) {
    const { options, right } = this.questions[this.at];
    const [text, reason] = options[letter];
    const item = document.createElement("li");
    const button = document.createElement("button");
    Object.assign(button, { type: "button", id: `option-${letter}`, innerHTML: `(${letter}) ${text}` });
    button.addEventListener("click", () => this.answer(letter));
    item.append(button);
    if (this.answers[this.at].includes(letter)) {
      const good = letter === right;
      item.className = good ? "right" : "wrong";
      const why = document.createElement("p");
      why.innerHTML = `<b>${good ? "\u2713 Right." : "\u2717 Not this one."}</b> ${reason}`;
      item.append(why);
    }
    return item;
  }

  stepButton(i) {
    const [first] = this.answers[i];
    const state = first === undefined ? "" : first === this.questions[i].right ? "\u2713" : "\u2717";
    const button = document.createElement("button");
    Object.assign(button, { type: "button", textContent: `${i + 1}${state}` });
    button.setAttribute("aria-label", `Question ${i + 1}${state && (state === "\u2713" ? ", right" : ", missed")}`);
    if (i === this.at) button.setAttribute("aria-current", "step");
    button.addEventListener("click", () => this.show(i));
    return button;
  }

  /** The score, in words; `last`: the letter that was just answered. */
  tell(last) {
    const { questions, answers, at } = this;
    const done = answers.filter(({ length }) => length).length;
    const score = answers.filter(([first], i) => first === questions[i].right).length;
    const verdict = last ? (last === questions[at].right ? "Right. " : "Not this one. ") : "";
    const end = done === questions.length ? " That was all." : "";
    say(`${verdict}${done ? `${score} of ${done} right at the first answer.${end}` : "No question answered yet."}`);
    Object.assign(document.documentElement.dataset, { score, done, at });
  }
}

await begin(() => new Quiz(JSON.parse(byId("data").textContent)));
