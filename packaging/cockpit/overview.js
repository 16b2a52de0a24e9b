// The first view: what waits for an operator, and whether all is well.

import { button, card, emptyState, facts, foreign, h, label } from "./dom.js";
import {
    ago, bytes, clock, deviceState, hasSite, number, partState, plural, protection, quorum, sum, when,
} from "./model.js";
import { approve, ignore, joinWindow, reject } from "./dialogs.js";
import { pager } from "./children.js";

/** The whole view.  page: has state, actions, and what was read. */
export function overview(page) {
    return h("div", { class: "overview", "data-id": "overview" },
             h("div", { class: "column wide" }, queue(page)),
             h("div", { class: "column" },
               joinCard(page), countsCard(page), cloudsCard(page), siteCard(page), storeCard(page),
               messagesCard(page)));
}

function queue(page) {
    const { queue: list } = page.state;
    const waiting = page.state.counts.pending ?? 0;
    const title = waiting ? `Waiting for approval (${number(waiting)})` : "Waiting for approval";
    if (!list.known)
        return card(title, h("p", { class: "subtle", text: "Reading…" }));
    const body = list.rows.length
        ? h("div", {}, h("ul", { class: "queue" }, list.rows.map(row => queued(page, row))),
            pager(page, list, waiting, "queue"))
        : emptyState("No child waits", "A device that no rule decides on, or that a rule asks about, is shown here.");
    return card(title, body);
}

function queued(page, row) {
    const does = (verb, text, kind, run) => button(text, kind, () => run(page, row), {
        "aria-label": `${text} ${row.name || row.id}`, "data-focus": `${verb} ${row.id}`,
    });
    return h("li", { class: "queued", "data-id": row.id },
             h("div", { class: "queued-name" },
               // "Why?" goes there as well: one stop of the keyboard less in each row
               h("a", { href: page.link(["children", row.id]), tabindex: "-1" }, foreign(row.name || row.id)),
               h("div", { class: "subtle" }, h("span", { class: "mono", text: row.id }),
                 ` · ${ago(row.since, page.now())}`)),
             h("div", { class: "buttons" },
               does("approve", "Approve", "primary", approve),
               does("reject", "Reject", "secondary", reject),
               does("ignore", "Ignore", "secondary", ignore),
               h("a", {
                   class: "button link", href: page.link(["children", row.id]),
                   "aria-label": `Why ${row.name || row.id} waits`, text: "Why?",
                   "data-focus": `why ${row.id}`,
               })));
}

function joinCard(page) {
    const { manager } = page.state;
    const left = clock(manager.JoinUntilTimestamp, page.now());
    const isOpen = manager.JoinState === "open" && left;
    const body = isOpen
        ? h("div", { class: "clock-row" },
            h("span", { class: "clock", role: "timer", "data-until": manager.JoinUntilTimestamp, text: left }),
            h("span", { class: "subtle", text: `Admits by: ${manager.JoinRules.join(", ") || "no rule"}` }))
        : h("p", {
            class: "subtle",
            text: manager.JoinRules.length
                ? "Closed. While it is open, devices of some rules join by themselves."
                : "Closed. No rule has window = true, so that it admits no device.",
        });
    const change = isOpen
        ? button("Close", "secondary", () => page.act("The join window is closed.",
            () => page.gateway.change("PermitJoin", "ua{sv}", 0, {})), { "data-focus": "join" })
        : button("Open", "secondary", () => joinWindow(page), {
            "data-focus": "join", "aria-label": "Open the join window",
        });
    return card("Join window", body, [change]);
}

function countsCard(page) {
    const { counts } = page.state;
    const rows = Object.entries(counts).sort(([, one], [, other]) => other - one);
    return card("Children", rows.length
        ? h("ul", { class: "counts" }, rows.map(([state, count]) => h("li", {},
            h("a", { href: page.link(["children"], { state }), "data-focus": `count ${state}` },
              label(deviceState(state))),
            h("span", { class: "count", text: number(count) }))))
        : h("p", { class: "subtle", text: "No device was seen yet." }),
                [h("a", { class: "button link", href: page.link(["children"]), text: "Show all", "data-focus": "all" })]);
}

function cloudsCard(page) {
    const { clouds } = page.state;
    if (!clouds.length)
        return card("Clouds", h("p", {}, "No cloud is configured. ",
                                h("a", { href: page.link(["setup"]), text: "Set this gateway up" })));
    return card("Clouds", h("ul", { class: "parts" }, clouds.map(cloud => h("li", {},
        h("div", { class: "part-head" },
          h("strong", { text: cloud.Id }), label(partState(cloud.State))),
        cloud.Endpoint ? h("div", { class: "subtle mono break", text: cloud.Endpoint }) : null,
        h("div", { class: "subtle", text: queuedText(cloud) }),
        cloud.Explanation ? h("p", { text: cloud.Explanation }) : null,
        cloud.Remedy ? h("p", { class: "remedy", text: cloud.Remedy }) : null,
        cloud.CertificateExpiryTimestamp
            ? h("div", { class: "subtle", text: `Certificates valid until ${when(cloud.CertificateExpiryTimestamp)}` })
            : null))));
}

function queuedText(cloud) {
    const all = plural(cloud.NDevices, "child", "children");
    return cloud.NQueued ? `${all}, ${number(cloud.NQueued)} without a secret yet` : all;
}

function storeCard(page) {
    const { store } = page.state;
    const [name, sentence] = protection(store.Protection);
    return card("Secrets", h("div", {},
        h("div", { class: "part-head" }, label(partState(store.State)),
          h("span", { text: plural(store.NSecrets, "secret") })),
        facts([
            ["Protected by", h("span", {}, name, sentence ? h("div", { class: "subtle", text: sentence }) : null)],
            ["Recovery keys", store.RecoverySlots ? number(store.RecoverySlots) : "None"],
        ]),
        store.Explanation ? h("p", { class: "remedy", text: store.Explanation }) : null));
}

function messagesCard(page) {
    const { messages } = page.state;
    if (messages.State === "disabled")
        return card("Messages", h("p", { class: "subtle", text: "Messages are not enabled." }));
    const dropped = sum(messages.Dropped);
    return card("Messages", h("div", {},
        h("div", { class: "part-head" }, label(partState(messages.State)),
          h("span", { text: `${plural(messages.NWaiting, "message")} waiting` })),
        facts([
            ["Size", messages.NWaiting ? bytes(messages.BytesWaiting) : ""],
            ["Oldest", messages.NWaiting ? ago(messages.OldestTimestamp, page.now()) : ""],
            ["Received", number(messages.Received)],
            ["Sent", number(messages.Sent)],
            ["Dropped", dropped ? Object.entries(messages.Dropped).map(([why, count]) => `${why} ${number(count)}`).join(", ") : "0"],
        ]),
        messages.Explanation ? h("p", { text: messages.Explanation }) : null,
        messages.Remedy ? h("p", { class: "remedy", text: messages.Remedy }) : null));
}

function siteCard(page) {
    const { site } = page.state;
    if (!hasSite(site))
        return null;
    return card("Site", h("div", {},
        site.Mode === "etcd" ? siteOnEtcd(site) : null,
        site.Mode === "share"
            ? h("p", { text: `This gateway has share ${site.Share} of the children of its site.` })
            : null,
        site.NContested
            ? h("p", {
                class: "remedy",
                text: `${plural(site.NContested, "child", "children")} seem to be logged in elsewhere, too; ` +
                    `${number(site.NYielded)} left to it. Each child says why.`,
            })
            : null));
}

function siteOnEtcd(site) {
    return h("div", {},
             h("div", { class: "part-head" },
               h("strong", { text: site.Name }), label(partState(site.State))),
             site.Explanation ? h("p", { text: site.Explanation }) : null,
             site.Remedy ? h("p", { class: "remedy", text: site.Remedy }) : null,
             h("ul", { class: "parts" }, site.Gateways.map(gatewayOfSite)),
             facts([
                 ["etcd", quorum(site)],
                 ["This gateway", `${site.Gateway}, ${plural(site.NOwned, "shard")}`],
                 ["Children in etcd", number(site.NReplicated)],
                 ["Changes waiting", site.NUnwritten ? number(site.NUnwritten) : ""],
             ]),
             site.ReplicationFault ? h("p", { class: "remedy", text: site.ReplicationFault }) : null);
}

function gatewayOfSite([name, state, version, fingerprint, shards]) {
    return h("li", {},
             h("div", { class: "part-head" }, h("strong", {}, foreign(name)), label(partState(state))),
             h("div", { class: "subtle", text: `${plural(shards, "shard")}${version ? ` · gatewayd ${version}` : ""}` }),
             fingerprint ? h("div", { class: "subtle mono break", text: fingerprint }) : null);
}

/** Have the clocks of the page go on.  Returns whether one has run out. */
export function tick(root, now) {
    let over = false;
    for (const element of root.querySelectorAll("[data-until]")) {
        const left = clock(Number(element.dataset.until), now);
        element.textContent = left || "0:00";
        over ||= !left;
    }
    return over;
}

