// The list of all children: a filter, a search, and one page of them.

import { button, card, emptyState, foreign, h, label } from "./dom.js";
import { ago, deviceState, MAX_SEARCH, range, STATES, total } from "./model.js";

/** The whole view. */
export function children(page) {
    const { list, counts, manager } = page.state;
    const { filter } = list;
    const table = list.rows.length
        ? h("table", { class: "table" },
            h("caption", { class: "visually-hidden", text: "Children" }),
            h("thead", {}, h("tr", {}, ["Name", "State", "Cloud", "Since"].map(
                text => h("th", { scope: "col", text })))),
            h("tbody", {}, list.rows.map(row => line(page, row))))
        : none(page);
    return h("div", { "data-id": "children" },
             card("All children", h("div", {},
                 h("form", { class: "toolbar", role: "search", onsubmit: event => event.preventDefault() },
                   h("input", {
                       type: "search", class: "control", name: "text", value: filter.text,
                       "aria-label": "Search children", maxlength: MAX_SEARCH, autocomplete: "off",
                       placeholder: "Name, id, serial number, address…", "data-focus": "search",
                       oninput: event => page.search({ text: event.target.value }),
                   }),
                   select("state", "State", filter.state, [["", "All states"], ...[...STATES].map(
                       ([state, [text]]) => [state, counts[state] ? `${text} (${counts[state]})` : text])],
                          value => page.search({ state: value })),
                   manager.Providers.length > 1
                       ? select("provider", "Cloud", filter.provider,
                                [["", "All clouds"], ...manager.Providers.map(name => [name, name])],
                                value => page.search({ provider: value }))
                       : null),
                 table, list.rows.length ? pager(page, list, total(counts, filter), "list") : null)));
}

function select(name, text, chosen, options, onchoice) {
    return h("select", {
        class: "control", name, "aria-label": text, "data-focus": `filter ${name}`,
        onchange: event => onchoice(event.target.value),
    }, options.map(([value, shown]) => h("option", { value, text: shown, selected: value === chosen })));
}

function line(page, row) {
    return h("tr", { "data-id": row.id },
             h("th", { scope: "row", "data-label": "Name" },
               h("a", { href: page.link(["children", row.id]), "data-focus": `open ${row.id}` },
                 foreign(row.name || row.id)),
               h("div", { class: "subtle mono", text: row.id })),
             h("td", { "data-label": "State" }, label(deviceState(row.state))),
             h("td", { "data-label": "Cloud", text: row.provider || "–" }),
             h("td", { "data-label": "Since", text: ago(row.since, page.now()) }));
}

function none(page) {
    const { filter, known } = page.state.list;
    if (!known)
        return h("p", { class: "subtle", text: "Reading…" });
    if (!filter.text && !filter.state && !filter.provider)
        return emptyState("No children", "No device was seen yet.");
    return emptyState("No child matches", "No child has all that is searched for.",
                      button("Clear the search", "link",
                             () => page.search({ text: "", state: "", provider: "" })));
}

/** The buttons to the next page and the one before.  which: the list of the page's state. */
export function pager(page, list, count, which) {
    const go = (text, does, enabled) => button(text, "plain", () => page.turn(which, does), {
        disabled: !enabled, "data-focus": `${which} ${does}`,
    });
    const first = list.page.afters.length === 1;
    if (first && !list.page.next)
        return h("div", { class: "pager subtle", text: range(list.page, list.rows.length, count) });
    return h("nav", { class: "pager", "aria-label": "Pages" },
             h("span", { class: "subtle", text: range(list.page, list.rows.length, count) }),
             go("Previous", "previous", !first), go("Next", "next", Boolean(list.page.next)));
}
