// The form of setup: which of its fields are shown, and what is sent.  Pure; Node.js tests it.
//
// `gatewayctl setup --questions` says which questions there are after the answers so far, what is
// wrong with them, and what was answered before: nothing of that is known here.

/** A form that nothing was typed into. */
export function emptyForm() {
    return { questions: [], typed: {} };
}

/** The form with the questions as gatewayctl has listed them.  What is no longer asked is dropped. */
export function listed(form, questions) {
    const asked = new Set(questions.map(question => question.Key));
    const typed = Object.fromEntries(Object.entries(form.typed).filter(([key]) => asked.has(key)));
    return { questions, typed };
}

/** The form with another answer to a question. */
export function answered(form, key, answer) {
    const question = form.questions.find(one => one.Key === key);
    const typed = { ...form.typed, [key]: answer };
    if (question && untouched(question, answer))
        delete typed[key];
    return { ...form, typed };
}

function untouched(question, answer) {
    return question.Secret ? answer === "" : answer.trim() === question.Answer;
}

/** What a field shows. */
export function shown(form, question) {
    return form.typed[question.Key] ?? (question.Secret ? "" : question.Answer);
}

/** Whether a secret was sealed before, and stays where none is typed. */
export function isSealed(form, question) {
    return question.Secret && !question.Fault && !(question.Key in form.typed);
}

/** What is wrong with the answer of a field; "" where it was not given yet. */
export function fault(form, question, attempted) {
    const given = attempted || question.Key in form.typed;
    return given ? question.Fault : "";
}

/** Whether setup can be run. */
export function isComplete(form) {
    return form.questions.length > 0 && form.questions.every(question => !question.Fault);
}

/** The answers as TOML, in which a basic string is written as in JSON, but for DEL. */
export function toml(answers) {
    const line = ([key, answer]) => `${key} = ${JSON.stringify(answer.trim()).replaceAll("\x7f", "\\u007f")}\n`;
    return Object.entries(answers).map(line).join("");
}

/** The objects of a text with one of JSON a line; an unfinished last line is left for later. */
export function records(text) {
    const lines = text.split("\n");
    const rest = lines.pop();
    return [lines.filter(line => line).map(line => JSON.parse(line)), rest];
}
