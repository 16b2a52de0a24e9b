// Elements, and what is made of several.  All text becomes text nodes: what a device announces is
// never read as HTML.

// What an element does, as `show` copies it.
const HANDLERS = ["onclick", "onchange", "oninput", "onsubmit"];
// What the browser or the user sets: it stays when an element is shown again.
const KEPT = ["open"];

/**
 * Make an element.  options: HANDLERS, "text", and attributes; one that is false, null or undefined
 * is left out.  children: elements and texts.
 */
export function h(tag, options = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
        if (HANDLERS.includes(name))
            element[name] = value;
        else if (name === "text")
            element.textContent = value;
        else if (value === true)
            element.setAttribute(name, "");
        else if (value !== false && value !== null && value !== undefined)
            element.setAttribute(name, value);
    }
    element.append(...children.flat().filter(child => child));
    return element;
}

/** A text from the LAN: its direction does not spread to what is beside it. */
export function foreign(text) {
    return h("bdi", { text });
}

/** A button.  kind: "primary", "secondary", "danger", "link" or "plain". */
export function button(text, kind, onclick, options = {}) {
    return h("button", { type: "button", class: `button ${kind}`, onclick, text, ...options });
}

/** A label in a colour.  shown: [text, tone]. */
export function label([text, tone]) {
    return h("span", { class: `label ${tone}`, text });
}

/** A card with a heading of level 2.  actions: elements beside the heading. */
export function card(title, body, actions = []) {
    const id = `card-${title.toLowerCase().replaceAll(/[^a-z]+/g, "-")}`;
    return h("section", { class: "card", "aria-labelledby": id },
             h("header", { class: "card-head" }, h("h2", { id, text: title }),
               h("div", { class: "card-actions" }, actions)),
             body);
}

/** Facts as terms and their descriptions.  One without a description is left out. */
export function facts(rows) {
    const shown = rows.filter(([, value]) => value !== "" && value !== null && value !== undefined);
    return h("dl", { class: "facts" },
             shown.map(([term, value]) => h("div", {}, h("dt", { text: term }), h("dd", {}, value))));
}

/** A sentence that something is not as it should be.  tone: as of a label. */
export function alert(tone, title, ...body) {
    return h("div", { class: `alert ${tone}`, role: tone === "danger" ? "alert" : "status" },
             h("strong", { text: title }), ...body.map(one => h("div", {}, one)));
}

/** Where there is nothing to list. */
export function emptyState(title, text, ...actions) {
    return h("div", { class: "empty" }, h("h3", { text: title }), h("p", { text }), actions);
}

/**
 * Have an element show these children in place of those it has.
 *
 * An element that is there stays the same one, by its data-id, data-focus or place, and gets what
 * differs: so the focus, what is being typed, and an open list of choices are left alone, and what
 * has not changed is not read out again.
 */
export function show(element, ...children) {
    const wanted = children.flat().filter(child => child);
    const present = [...element.childNodes];
    const byKey = new Map(present.filter(keyOf).map(child => [keyOf(child), child]));
    const used = new Set();
    const shown = wanted.map(child => {
        const found = keyOf(child)
            ? byKey.get(keyOf(child))
            : present.find(one => !used.has(one) && isLike(one, child));
        if (!found || used.has(found) || !isLike(found, child))
            return child;
        used.add(found);
        return morphed(found, child);
    });
    // those that stay are not moved where only others go, as a moved element loses the focus
    present.filter(one => !used.has(one)).forEach(one => one.remove());
    shown.forEach((child, place) => {
        const there = element.childNodes[place] ?? null;
        if (there !== child)
            element.insertBefore(child, there);
    });
}

function keyOf(node) {
    return node.dataset?.id ?? node.dataset?.focus ?? "";
}

function isLike(one, other) {
    return one.nodeName === other.nodeName && keyOf(one) === keyOf(other);
}

/** Give an element what another one has; return the first. */
function morphed(element, wanted) {
    if (element === wanted)
        return element;
    if (element.nodeType === Node.TEXT_NODE) {
        if (element.data !== wanted.data)
            element.data = wanted.data;
        return element;
    }
    for (const { name } of [...element.attributes]) {
        if (!wanted.hasAttribute(name) && !KEPT.includes(name))
            element.removeAttribute(name);
    }
    for (const { name, value } of wanted.attributes) {
        if (element.getAttribute(name) !== value)
            element.setAttribute(name, value);
    }
    for (const name of HANDLERS)
        element[name] = wanted[name];
    show(element, ...wanted.childNodes);
    if ("value" in wanted && element !== document.activeElement && element.value !== wanted.value)
        element.value = wanted.value;
    return element;
}

/** Say something to those who do not see the page change. */
export function announce(text) {
    document.getElementById("live").textContent = text;
}

/**
 * A dialog: Escape closes it, and the focus stays within, and goes back to where it was.
 *
 * action: {text, kind, run}: run is awaited, and what it throws is shown; null for a dialog that
 * only shows something.  Returns the element.
 */
export function dialog(title, body, action, errorOf) {
    const message = h("div", { class: "dialog-message" });
    const before = document.activeElement;
    const close = () => box.close();
    const submit = action && button(action.text, action.kind, null, { type: "submit" });
    const cancel = button(action ? "Cancel" : "Close", action ? "link" : "secondary", close);
    const form = h("form", { method: "dialog", class: "dialog" },
                   h("h2", { id: "dialog-title" }, title),
                   h("div", { class: "dialog-body" }, body), message,
                   h("div", { class: "dialog-actions" }, submit, cancel));
    const box = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    form.onsubmit = async event => {
        event.preventDefault();
        if (!action || submit.disabled)
            return;
        submit.disabled = true;
        submit.setAttribute("aria-busy", "true");
        try {
            await action.run();
            close();
        } catch (error) {
            show(message, alert("danger", "Nothing was changed", errorOf(error)));
            submit.disabled = false;
            submit.removeAttribute("aria-busy");
            submit.focus();
        }
    };
    box.addEventListener("close", () => {
        box.remove();
        if (before?.isConnected)
            before.focus();
        else
            document.querySelector("main")?.focus();
    });
    document.body.append(box);
    box.showModal();
    (form.querySelector("input, select, textarea") ?? submit ?? cancel).focus();
    return box;
}

/** A field with its label, help and fault.  control: gets what ties them together. */
export function field(text, control, help = "", fault = "") {
    const id = `field-${control.getAttribute("name")}`;
    control.id = id;
    const described = [];
    const parts = [h("label", { for: id, text })];
    if (help) {
        described.push(`${id}-help`);
        parts.push(control, h("div", { id: `${id}-help`, class: "help", text: help }));
    } else {
        parts.push(control);
    }
    if (fault) {
        described.push(`${id}-fault`);
        parts.push(h("div", { id: `${id}-fault`, class: "fault", text: fault }));
        control.setAttribute("aria-invalid", "true");
    }
    if (described.length)
        control.setAttribute("aria-describedby", described.join(" "));
    return h("div", { class: "field" }, parts);
}
