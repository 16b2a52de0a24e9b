// The form of setup: gatewayctl says what it asks, and is run with the answers as an administrator.

import { gatewayctl, Refused } from "./bus.js";
import { alert, announce, button, card, field, h, show } from "./dom.js";
import { capitalized, errorText } from "./model.js";
import {
    answered, emptyForm, fault, isComplete, isSealed, listed, shown, toml,
} from "./setup_form.js";

// Lines of what setup says, of which each child that arrives may add one.
const MOST_LINES = 500;

export class Setup {
    constructor() {
        this.form = emptyForm();
        this.attempted = false;
        this.problem = "";
        this.lines = [];
        this.state = "new";  // new, reading, ready, running, done or failed
        this.reading = 0;
        this.root = h("div", { "data-id": "setup" });
    }

    /** The element of the view; the questions are read when it is first shown. */
    view() {
        if (this.state === "new")
            this.read();
        else
            this.draw();
        return this.root;
    }

    /** Read the questions, as they are after the answers so far. */
    async read() {
        const mine = ++this.reading;
        if (this.state === "new" || this.state === "denied") {
            this.state = "reading";
            this.draw();
        }
        try {
            const questions = await gatewayctl(["setup", "--questions", "--answers", "-"],
                                               toml(this.form.typed));
            if (mine !== this.reading)
                return;
            this.form = listed(this.form, questions);
            this.state = "ready";
            this.problem = "";
        } catch (error) {
            if (mine !== this.reading)
                return;
            this.state = "denied";
            this.problem = error instanceof Refused
                ? "Setup writes below /etc and seals secrets: turn on administrative access, and try again."
                : errorText(error);
        }
        this.draw();
    }

    draw() {
        if (this.state === "reading" || this.state === "new") {
            show(this.root, h("p", { class: "subtle", text: "Reading what setup asks…" }));
            return;
        }
        if (this.state === "denied") {
            show(this.root, alert("warning", "Setup cannot be used", this.problem,
                                  button("Try again", "secondary", () => this.read(), { "data-focus": "again" })));
            return;
        }
        const busy = this.state === "running";
        show(this.root, card("Set this gateway up", h("form", {
            class: "form", novalidate: true, onsubmit: event => {
                event.preventDefault();
                this.run();
            },
        }, this.form.questions.map(question => this.question(question)),
           h("div", { class: "buttons" },
             button(busy ? "Setting up…" : "Set up", "primary", null, {
                 type: "submit", disabled: busy, "data-focus": "run", "aria-busy": busy ? "true" : null,
             })))), this.result());
    }

    result() {
        if (!this.lines.length && !this.problem)
            return null;
        const [title, tone] = this.state === "done" ? ["Done", "success"] : ["Failed", "danger"];
        const log = h("ol", { class: "log", "aria-label": "What setup says", tabindex: "0" },
                      this.lines.map(text => h("li", { text })));
        return card("What setup says", h("div", {}, this.lines.length ? log : null,
                                         this.state === "running" ? null : alert(tone, title, this.problem)));
    }

    question(question) {
        const value = shown(this.form, question);
        const options = {
            class: "control", name: question.Key, "data-focus": `answer ${question.Key}`,
            onchange: event => this.answer(question.Key, event.target.value),
        };
        let control;
        if (question.Choices.length) {
            control = h("select", options,
                        value ? null : h("option", { value: "", text: "Choose…" }),
                        question.Choices.map(choice => h("option", {
                            value: choice, text: capitalized(choice), selected: choice === value,
                        })));
        } else {
            control = h("input", {
                ...options, type: question.Secret ? "password" : "text", value, autocomplete: "off",
                spellcheck: "false", maxlength: 4096,
                placeholder: isSealed(this.form, question) ? "Sealed; empty leaves it as it is" : null,
            });
        }
        const wrong = fault(this.form, question, this.attempted);
        return field(question.Text, control, sentence(question.Help), wrong && `This ${wrong}.`);
    }

    /** Take an answer, and ask what is asked after it. */
    answer(key, value) {
        if (this.state === "running")
            return;
        this.form = answered(this.form, key, value);
        this.lines = [];  // of a run with other answers
        this.problem = "";
        this.pending = this.read();
    }

    /** Run setup with the answers; what is wrong with them is shown instead where something is. */
    async run() {
        await this.pending;
        this.attempted = true;
        if (!isComplete(this.form)) {
            this.draw();
            const first = this.form.questions.find(question => question.Fault);
            this.root.querySelector(`[name="${first?.Key}"]`)?.focus();
            announce("Some answers are missing or wrong.");
            return;
        }
        this.state = "running";
        this.lines = [];
        this.problem = "";
        this.draw();
        const said = found => {
            this.lines = found.map(record => record.Text).filter(Boolean).slice(-MOST_LINES);
            this.draw();
        };
        try {
            await gatewayctl(["setup", "--answers", "-"], toml(this.form.typed), said);
            announce("This gateway is set up.");
            this.form = { ...this.form, typed: {} };
            await this.read();
            this.attempted = false;
            this.state = "done";
        } catch (error) {
            this.state = "failed";
            this.problem = errorText(error);
            announce("Setup has failed.");
        }
        this.draw();
    }
}

function sentence(text) {
    return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
