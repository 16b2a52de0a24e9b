// What the page decides, and how it words it.  Pure: no document, no Cockpit; Node.js tests it.

export const PAGE = 50;
// Characters of a text that the daemon searches for.
export const MAX_SEARCH = 64;

// Each state of a child: how it is shown, and in which colour.  In the order of the filter.
export const STATES = new Map([
    ["pending", ["Waiting for approval", "warning"]],
    ["online", ["Online", "success"]],
    ["offline", ["Offline", "danger"]],
    ["handed-over", ["Handed over", "success"]],
    ["failed", ["Failed", "danger"]],
    ["frozen", ["Frozen", "danger"]],
    ["admitted", ["Admitted", "info"]],
    ["registering", ["Registering", "info"]],
    ["securing", ["Securing", "info"]],
    ["registered", ["Registered", "info"]],
    ["activating", ["Activating", "info"]],
    ["discovered", ["Discovered", "neutral"]],
    ["rejected", ["Rejected", "neutral"]],
    ["elsewhere", ["At another gateway", "neutral"]],
    ["retired", ["Retired", "neutral"]],
]);

const OTHER_STATES = new Map([
    ["running", "success"], ["ready", "success"], ["unsealed", "success"], ["connected", "success"],
    ["starting", "info"], ["connecting", "info"], ["stopping", "info"], ["open", "info"],
    ["degraded", "warning"], ["throttled", "warning"], ["dropping", "warning"], ["paused", "warning"],
    ["failed", "danger"], ["sealed", "danger"], ["cloned", "danger"], ["rollback-suspected", "danger"],
    ["full", "danger"], ["blocked", "danger"],
    ["live", "success"], ["draining", "info"], ["drained", "info"], ["waiting", "warning"],
    ["no-quorum", "warning"], ["gone", "danger"], ["stopped", "danger"], ["faulty", "danger"],
    ["not-founded", "danger"], ["not-joined", "danger"], ["removed", "danger"],
]);

/** How a state of a child is shown: [text, tone].  One that is not known is shown as it is. */
export function deviceState(state) {
    return STATES.get(state) ?? [capitalized(state), "neutral"];
}

/** How a state of the gateway, a cloud, the store or the outbox is shown: [text, tone]. */
export function partState(state) {
    return [capitalized(state), OTHER_STATES.get(state) ?? "neutral"];
}

/** "handed-over" as "Handed over". */
export function capitalized(word) {
    const text = word.replaceAll("-", " ");
    return text.charAt(0).toUpperCase() + text.slice(1);
}

const PROTECTIONS = new Map([
    ["tpm2", ["TPM of this machine", "A thief of the disk lacks the TPM of this machine."]],
    ["keyring", ["Keyring", "A thief of the disk lacks what opens the keyring."]],
    ["credential", ["Credential of systemd",
        "A thief of the disk lacks what systemd opens the key with: see systemd-creds(1)."]],
    ["key-on-disk", ["Key on the same disk",
        "A thief of the disk lacks nothing: the key lies on the same disk."]],
    ["none", ["No key", "There is no key here: the secrets cannot be read."]],
]);

/** How a protection is shown: [name, sentence]. */
export function protection(word) {
    return PROTECTIONS.get(word) ?? [capitalized(word), ""];
}

export const CONFLICTS = new Map([
    ["identity-conflict", "Another device shows what identifies this one."],
    ["moved-or-cloned", "It was seen behind another MAC."],
    ["two-claimants", "It answers at two places at once."],
    ["proof-of-another", "It has proven the key or the certificate of another child."],
    ["name-contested", "Another device has its name; a name identifies none."],
]);

/** What an operator may do with a child in this state, in the order of the buttons. */
export function actions(state) {
    const found = [];
    if (["pending", "rejected", "frozen"].includes(state))
        found.push("approve");
    if (!["rejected", "retired"].includes(state))
        found.push("reject");
    if (["pending", "discovered", "rejected"].includes(state))
        found.push("ignore");
    if (["failed", "offline", "admitted", "registering", "registered", "activating"].includes(state))
        found.push("retry");
    found.push("rename", "forget");
    return found;
}

/** The filter of ListDevicesFiltered, as plain texts; what is empty does not filter. */
export function filters({ state = "", provider = "", text = "" }) {
    const given = { state, provider, text: text.trim().slice(0, MAX_SEARCH) };
    return Object.fromEntries(Object.entries(given).filter(([, value]) => value));
}

// Where a reader is in pages of which each knows only where the next one begins.

/** The first page. */
export function firstPage() {
    return { afters: [""], next: "" };
}

/** The page with the place of the next one, as its rows came with it. */
export function loaded(page, next) {
    return { ...page, next };
}

/** The page after this one; the same where there is none. */
export function nextPage(page) {
    return page.next ? { afters: [...page.afters, page.next], next: "" } : page;
}

/** The page before this one; the same on the first. */
export function previousPage(page) {
    return page.afters.length > 1 ? { afters: page.afters.slice(0, -1), next: "" } : page;
}

/** Where this page begins, for the daemon. */
export function after(page) {
    return page.afters[page.afters.length - 1];
}

/** "51–100 of 5,000".  all: how many there are; null where that is not known, as of a search. */
export function range(page, rows, all) {
    if (!rows)
        return "None";
    const first = (page.afters.length - 1) * PAGE + 1;
    const last = first + rows - 1;
    const shown = first === last ? number(first) : `${number(first)}–${number(last)}`;
    if (page.next)
        return all === null || all <= last ? `${shown} of more` : `${shown} of ${number(all)}`;
    return `${shown} of ${number(last)}`;
}

/** How many children a filter by state alone leaves; null where more than that filters. */
export function total(counts, { state, provider, text }) {
    if (provider || text)
        return null;
    return state ? counts[state] ?? 0 : sum(counts);
}

export function sum(counts) {
    return Object.values(counts).reduce((all, one) => all + one, 0);
}

/** "5000" as "5,000". */
export function number(value) {
    return value.toLocaleString("en");
}

/** "1 child", "5,000 children". */
export function plural(value, one, many = `${one}s`) {
    return `${number(value)} ${value === 1 ? one : many}`;
}

/** Bytes for people: "1.5 MiB". */
export function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB"];
    let unit = 0;
    while (value >= 1024 && unit < units.length - 1) {
        value /= 1024;
        unit++;
    }
    return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** What is left of a join window: "2:59"; "" once it is over.  until: microseconds; now: ms. */
export function clock(until, now) {
    const seconds = Math.ceil((until / 1000 - now) / 1000);
    if (seconds <= 0)
        return "";
    return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

/** A time in the past for people: "just now", "5 min ago", "2 days ago"; "never" for 0. */
export function ago(microseconds, now) {
    if (!microseconds)
        return "never";
    const seconds = Math.max(0, now - microseconds / 1000) / 1000;
    const units = [[86400, "day"], [3600, "hour"], [60, "min"]];
    for (const [length, unit] of units) {
        const count = Math.floor(seconds / length);
        if (count)
            return `${count} ${unit}${count > 1 && unit !== "min" ? "s" : ""} ago`;
    }
    return "just now";
}

/** A time as "2026-11-30 10:00:00", in the zone of the browser; "–" for 0, which is never. */
export function when(microseconds) {
    if (!microseconds)
        return "–";
    const time = new Date(microseconds / 1000);
    const two = value => String(value).padStart(2, "0");
    const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
    return `${date} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":")}`;
}

/** Whether there is something to show of a site. */
export function hasSite(site) {
    return site.Mode !== "alone" || site.NContested > 0;
}

/** What is known of etcd, as a sentence. */
export function quorum(site) {
    if (!site.QuorumLostTimestamp && !site.SecondsLeft)
        return "No answer yet";
    if (!site.QuorumLostTimestamp)
        return `Answers; without it this gateway would go on for ${site.SecondsLeft} s`;
    const rest = site.SecondsLeft ? `goes on for ${site.SecondsLeft} s` : "sends nothing for its children";
    return `No answer since ${when(site.QuorumLostTimestamp)}; this gateway ${rest}`;
}

const REFUSALS = [
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
];

/** Whether polkit has refused a call: what an administrator might be allowed. */
export function isRefusal(error) {
    return REFUSALS.includes(error?.name);
}

/** What an error says, in one text.  refused: whether administrative access was tried as well. */
export function errorText(error, refused = false) {
    const text = error?.message || error?.problem || String(error);
    const end = /[.!?]$/.test(text) ? "" : ".";
    if (refused)
        return `${text}${end} Turn on administrative access, or ask an operator of this gateway.`;
    return `${text}${end}`;
}

/** The path element of an object, as sd_bus_path_encode(3) escapes it. */
export function escapedPath(name) {
    if (!name)
        return "_";
    const bytesOf = [...new TextEncoder().encode(name)];
    return bytesOf.map((code, place) => {
        const character = String.fromCharCode(code);
        const kept = /[A-Za-z]/.test(character) || (place && /[0-9]/.test(character));
        return kept ? character : `_${code.toString(16).padStart(2, "0")}`;
    }).join("");
}

/** What a source shows of a child, as [key, value] without what every source has. */
export function shownBy(sighting) {
    return Object.entries(sighting)
            .filter(([key]) => !["source", "interface", "trust"].includes(key))
            .sort(([one], [other]) => (one < other ? -1 : 1));
}
