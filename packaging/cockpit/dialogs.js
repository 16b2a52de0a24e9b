// What is asked before something is changed.

import { dialog, field, foreign, h } from "./dom.js";
import { errorText } from "./model.js";
import { gatewayctl } from "./bus.js";

const SITE_RULES = "/etc/gatewayd/rules.d/40-site.toml";
const LONGEST_WINDOW = 15;

function named(row) {
    return row.name || row.id;
}

/** Admit a child; where there are several clouds, to which. */
export async function approve(page, row) {
    const { Providers } = page.state.manager;
    const run = provider => page.did(`${named(row)} is approved.`,
                                     page.gateway.change("Approve", "ss", row.id, provider));
    if (Providers.length < 2) {
        await page.act("", () => run(""));
        return;
    }
    const choice = h("select", { class: "control", name: "provider" },
                     h("option", { value: "", text: "The one that the rules name" }),
                     Providers.map(name => h("option", { value: name, text: name })));
    dialog(h("span", {}, "Approve ", foreign(named(row))), field("Cloud", choice),
           { text: "Approve", kind: "primary", run: () => run(choice.value) }, errorText);
}

/** Reject a child, after what that would do was shown. */
export async function reject(page, row) {
    const note = h("input", { class: "control", name: "note", maxlength: 200, autocomplete: "off" });
    dialog(h("span", {}, "Reject ", foreign(named(row)), "?"),
           h("div", {},
             h("p", { text: "It cannot join, now and when it comes back, until it is approved or forgotten." }),
             await consequences(page, row, "Reject"),
             field("Note", note, "For the record; it may be empty.")),
           {
               text: "Reject", kind: "danger",
               run: () => page.did(`${named(row)} is rejected.`,
                                   page.gateway.change("Reject", "ss", row.id, note.value)),
           }, errorText);
}

async function consequences(page, row, command) {
    try {
        const [found] = await page.gateway.ask("Consequences", row.id, command);
        return found.length ? h("ul", { class: "reasons" }, found.map(text => h("li", { text }))) : null;
    } catch {
        return null;  // the method itself says what is wrong
    }
}

/** Ignore devices like this one: a rule, which gatewayctl writes, as the daemon cannot. */
export async function ignore(page, row) {
    const purposes = [["service", "All devices of its service"], ["vendor", "All devices of its vendor"]];
    const rules = (await Promise.all(purposes.map(async ([purpose, text]) => {
        try {
            const [rule] = await page.gateway.ask("SuggestRule", row.id, `ignore-${purpose}`, {});
            return { purpose, text, rule: rule.Text.v };
        } catch (error) {
            return { purpose, text, why: errorText(error) };
        }
    })));
    const possible = rules.filter(one => one.rule);
    const shown = h("pre", { class: "code", tabindex: "0", "aria-label": "The rule" });
    let chosen = possible[0];
    const choose = one => {
        chosen = one;
        shown.textContent = one.rule;
    };
    if (chosen)
        choose(chosen);
    const body = h("div", {},
                   h("fieldset", { class: "radios" }, h("legend", { text: "What is to be ignored?" }),
                     rules.map(one => h("label", {},
                         h("input", {
                             type: "radio", name: "purpose", value: one.purpose, disabled: !one.rule,
                             checked: one === chosen, onchange: () => choose(one),
                         }), h("span", {}, one.text, one.why ? h("div", { class: "help", text: one.why }) : null)))),
                   chosen ? h("p", {}, "This rule is added to ", h("span", { class: "mono break", text: SITE_RULES }), ":") : null,
                   chosen ? shown : null);
    dialog(h("span", {}, "Ignore devices like ", foreign(named(row))), body,
           chosen && {
               text: "Ignore", kind: "danger",
               run: () => page.did(`Devices like ${named(row)} are ignored.`, gatewayctl(
                   ["rules", "suggest", row.id, `--ignore-${chosen.purpose}`, "--write", SITE_RULES])),
           }, errorText);
}

/** Show another name of a child. */
export function rename(page, row) {
    const name = h("input", {
        class: "control", name: "label", maxlength: 200, required: true, value: row.name, autocomplete: "off",
    });
    dialog(h("span", {}, "Rename ", foreign(named(row))), field("Name", name, "It identifies nothing."),
           {
               text: "Rename", kind: "primary",
               run: () => page.did("The child has another name.",
                                   page.gateway.change("Rename", "ss", row.id, name.value.trim())),
           }, errorText);
}

/** Remove a child and its secrets, after what that would do was shown. */
export async function forget(page, row) {
    dialog(h("span", {}, "Forget ", foreign(named(row)), "?"),
           h("div", {},
             h("p", { text: "Its record and its secrets are removed. If it is still on the LAN, it is discovered as an unknown device." }),
             await consequences(page, row, "Forget")),
           {
               text: "Forget", kind: "danger",
               run: async () => {
                   await page.did(`${named(row)} is forgotten.`, page.gateway.change("Forget", "s", row.id));
                   page.go(["children"]);
               },
           }, errorText);
}

/** Open the join window. */
export function joinWindow(page) {
    const minutes = h("input", {
        class: "control", name: "minutes", type: "number", min: 1, max: LONGEST_WINDOW, value: 3, required: true,
    });
    const most = h("input", { class: "control", name: "most", type: "number", min: 1, placeholder: "No limit" });
    const rule = h("select", { class: "control", name: "rule" },
                   h("option", { value: "", text: "Any that admits by a window" }),
                   page.state.manager.JoinRules.map(name => h("option", { value: name, text: name })));
    dialog("Open the join window", h("div", {},
        h("p", { text: "While it is open, the rules below register the devices that they would otherwise ask about." }),
        field("Minutes", minutes, `1 to ${LONGEST_WINDOW}`),
        field("Rule", rule),
        field("At most so many devices", most)),
           {
               text: "Open", kind: "primary",
               run: () => {
                   const { variant } = window.cockpit;
                   const scope = {};
                   if (rule.value)
                       scope.rule = variant("s", rule.value);
                   if (most.value)
                       scope["max-devices"] = variant("u", Number(most.value));
                   const seconds = Number(minutes.value) * 60;
                   return page.did("The join window is open.",
                                   page.gateway.change("PermitJoin", "ua{sv}", seconds, scope));
               },
           }, errorText);
}
