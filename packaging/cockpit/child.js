// One child: why it is in its state, what was seen of it, and what has happened to it.

import { alert, button, card, facts, foreign, h, label } from "./dom.js";
import {
    actions, ago, capitalized, CONFLICTS, deviceState, number, plural, shownBy, when,
} from "./model.js";
import { approve, forget, ignore, reject, rename } from "./dialogs.js";

const VERBS = {
    approve: ["Approve", "primary", approve],
    reject: ["Reject", "secondary", reject],
    ignore: ["Ignore", "secondary", ignore],
    rename: ["Rename", "secondary", rename],
    forget: ["Forget", "danger-outline", forget],
};
// Of what one source shows: how many are shown at once.
const MOST_SHOWN = 64;

/** The whole view; what was read of the child is in page.state.child. */
export function child(page) {
    const { described, rules, problem } = page.state.child;
    const back = h("nav", { class: "crumbs", "aria-label": "Breadcrumb" },
                   h("a", { href: page.link(["children"]), text: "Children", "data-focus": "back" }),
                   h("span", { "aria-hidden": "true", text: "›" }),
                   h("span", { "aria-current": "page" }, foreign(described?.Name || page.state.child.id)));
    const view = { "data-id": `child ${page.state.child.id}` };
    if (problem)
        return h("div", view, back, alert("danger", "This child cannot be shown", problem));
    if (!described)
        return h("div", view, back, h("p", { class: "subtle", text: "Reading…" }));
    return h("div", view, back,
             h("div", { class: "child-head" },
               h("h2", {}, foreign(described.Name || described.Id)), label(deviceState(described.State)),
               h("div", { class: "buttons" }, buttons(page, described))),
             h("div", { class: "overview" },
               h("div", { class: "column wide" }, why(page, described, rules), history(described)),
               h("div", { class: "column" }, identity(page, described), seen(page, described),
                 said(page, described))));
}

function buttons(page, described) {
    const row = { id: described.Id, name: described.Name, state: described.State };
    return actions(described.State).map(verb => {
        if (verb === "retry")
            return button("Retry now", "secondary", () => page.act(`${row.name || row.id} is tried again.`,
                () => page.gateway.change("Retry", "s", row.id)), { "data-focus": "retry" });
        const [text, kind, run] = VERBS[verb];
        return button(text, kind, () => run(page, row), { "data-focus": verb });
    });
}

function why(page, described, rules) {
    const doing = described.SubState && described.State !== "pending" ? ` (${capitalized(described.SubState).toLowerCase()})` : "";
    const parts = [h("p", { text: `${deviceState(described.State)[0]}${doing} since ${when(described.StateChangeTimestamp)}.` })];
    const reason = described.Explanation || (described.Reason && capitalized(described.Reason));
    if (reason)
        parts.push(h("p", { class: "explanation", text: reason }));
    if (described.Remedy)
        parts.push(h("p", { class: "remedy" }, h("strong", { text: "What to do: " }), described.Remedy));
    if (described.Conflict)
        parts.push(alert("warning", CONFLICTS.get(described.Conflict) ?? capitalized(described.Conflict),
                         ...described.ConflictWith.map(
                             id => h("a", { href: page.link(["children", id]), text: id }))));
    if (described.NextAttemptTimestamp)
        parts.push(h("p", { text: `Tried again at ${when(described.NextAttemptTimestamp)}.` }));
    if (rules && described.LastSeenTimestamp) {
        const by = rules.rule ? `, by the rule ${rules.rule}` : "";
        parts.push(h("h3", { text: "What the rules decide now" }),
                   h("p", { text: `${capitalized(rules.action)}${by}.` }),
                   h("ul", { class: "reasons" }, rules.reasons.map(text => h("li", { text }))));
    }
    return card("Why", h("div", { class: "why" }, parts));
}

function history(described) {
    return card("History", described.History.length
        ? h("ol", { class: "history" }, [...described.History].reverse().map(
            ([at, event, state, text]) => h("li", {},
                h("time", { class: "subtle", text: when(at) }),
                h("div", {}, h("strong", { text: capitalized(event) }), ` → ${deviceState(state)[0]}`),
                text ? h("div", { class: "subtle", text }) : null)))
        : h("p", { class: "subtle", text: "Nothing has happened yet." }));
}

function identity(page, described) {
    const cloud = described.CloudId ? `${described.CloudId} at ${described.Provider}` : described.Provider;
    return card("Identity", facts([
        ["Id", h("span", { class: "mono break", text: described.Id })],
        ["Identity", described.Identity ? h("span", { class: "break" }, foreign(described.Identity)) : "None"],
        ["Trust", capitalized(described.Trust)],
        ["Admitted by", admission(described)],
        ["At the cloud", h("span", { class: "break", text: cloud || "–" })],
        ["Secret", capitalized(described.SecretState)],
        ["Registered", described.RegisteredTimestamp ? when(described.RegisteredTimestamp) : ""],
        ["First login", described.ActivatedTimestamp ? when(described.ActivatedTimestamp) : ""],
        ["Proof", described.Proof ? proven(described.Proof) : ""],
    ]));
}

function admission({ Admission, Rule }) {
    if (Admission === "none")
        return "Not admitted";
    return Rule ? `${capitalized(Admission)} ${Rule}` : capitalized(Admission);
}

function proven(proof) {
    return h("ul", { class: "plain" }, Object.entries(proof).map(([name, value]) => h("li", { class: "break" },
        `${name}: `, foreign(name.endsWith("Timestamp") ? when(value) : String(value)))));
}

function seen(page, described) {
    const { Model, Vendor, Addresses, Sightings = [] } = described;
    return card("Seen on the LAN", h("div", {},
        facts([
            ["Model", Model ? foreign(Model) : ""],
            ["Vendor", Vendor ? foreign(Vendor) : ""],
            ["Addresses", Addresses.length ? h("span", { class: "mono break", text: Addresses.join(", ") }) : "None"],
            ["Found by", described.Protocol],
            ["First", when(described.FirstSeenTimestamp)],
            ["Last", ago(described.LastSeenTimestamp, page.now())],
        ]),
        Sightings.map(one => h("details", {},
            h("summary", { "data-focus": `source ${one.source} ${one.interface ?? ""}` },
              foreign([one.source, one.interface].filter(Boolean).join(" on ")),
              ` (${capitalized(one.trust ?? "").toLowerCase()})`),
            h("dl", { class: "facts small" }, shownBy(one).slice(0, MOST_SHOWN).map(([key, value]) => h("div", {},
                h("dt", {}, foreign(key)), h("dd", { class: "break" }, foreign(value)))))))));
}

function said(page, described) {
    const { Messages = {} } = described;
    if (!Messages.Received && !Messages.NWaiting)
        return null;
    return card("Its messages", h("div", {}, facts([
        ["Door", Messages.Door ?? ""],
        ["Waiting", plural(Messages.NWaiting ?? 0, "message")],
        ["Received", number(Messages.Received ?? 0)],
        ["Sent", number(Messages.Sent ?? 0)],
        ["Dropped", (Messages.Dropped ?? []).join(", ") || "0"],
        ["Refused", [Messages.RefusalExplanation, Messages.RefusalRemedy].filter(Boolean).join(" ")],
    ]), (Messages.Commands ?? []).length
        ? h("details", {}, h("summary", { text: "Commands", "data-focus": "commands" }),
            h("ul", { class: "plain" }, Messages.Commands.map(text => h("li", { class: "break" }, foreign(text)))))
        : null));
}
