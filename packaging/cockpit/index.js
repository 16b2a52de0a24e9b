// The page: which view is shown, what it shows, and what is read again after a change.

import { Gateway, Refused } from "./bus.js";
import { children } from "./children.js";
import { child } from "./child.js";
import { alert, announce, button, h, label, show } from "./dom.js";
import {
    after, errorText, filters, firstPage, loaded, nextPage, number, partState, plural, previousPage,
} from "./model.js";
import { overview, tick } from "./overview.js";
import { Setup } from "./setup.js";
import { follow } from "./theme.js";

const { cockpit } = window;

// Milliseconds between two readings: after changes that come in a flood, and of what no signal
// announces.
const PAUSE = 500;
const POLL = 5000;
const TYPING = 250;

// known: whether it was read yet.
const LIST = { rows: [], page: firstPage(), known: false };

class Page {
    constructor() {
        this.gateway = new Gateway();
        this.setup = new Setup();
        this.state = {
            manager: { Providers: [], JoinRules: [], RestartNeeded: [], JoinState: "closed", JoinUntilTimestamp: 0, State: "" },
            counts: {}, clouds: [], store: { NSecrets: 0, State: "", Protection: "none" },
            messages: { State: "disabled", Dropped: {} },
            site: { Mode: "alone", Gateways: [] },
            queue: LIST,
            list: { ...LIST, filter: { text: "", state: "", provider: "" } },
            child: { id: "", described: null, rules: null, problem: "" },
        };
        this.running = null;  // whether gatewayd runs; null until that is known
        this.problem = "";
        this.due = null;
        this.busy = false;
        this.again = false;
        this.newly = [];  // the names of those that wait, until it is said
        this.main = h("main", { id: "main", tabindex: "-1" });
        this.head = h("header", { class: "page-head" });
        this.notice = h("div", { class: "notices" });
        document.getElementById("app").append(this.head, this.notice, this.main);
    }

    now() {
        return Date.now();
    }

    /** The address of a view, for a link. */
    link(path, options = {}) {
        return `#${cockpit.location.encode(path, options)}`;
    }

    go(path, options = {}) {
        cockpit.location.go(path, options);
    }

    get path() {
        return cockpit.location.path;
    }

    start() {
        cockpit.addEventListener("locationchanged", () => this.located());
        this.gateway.follow((what, value) => this.happened(what, value));
        window.setInterval(() => document.hidden || this.refresh(), POLL);
        window.setInterval(() => tick(this.main, this.now()) && this.refresh(), 1000);
        document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
        this.located();
    }

    /** Another view was asked for: its address has what it shows. */
    located() {
        const [view, id] = this.path;
        const { list } = this.state;
        if (view === "children" && id) {
            if (this.state.child.id !== id)
                this.state.child = { id, described: null, rules: null, problem: "" };
        } else if (view === "children") {
            const { text = "", state: wanted = "", provider = "" } = cockpit.location.options;
            const filter = { text, state: wanted, provider };
            const asked = JSON.stringify(filter);
            // an address that follows a search may come after the next key was typed
            if (asked === this.followed)
                this.followed = "";
            else if (asked !== JSON.stringify(list.filter))
                this.state.list = { ...list, page: firstPage(), filter };
        }
        if (this.shownView !== this.path.join("/")) {
            const moved = this.shownView !== undefined;
            this.shownView = this.path.join("/");
            this.draw();
            if (moved)
                this.main.focus({ preventScroll: true });
        }
        this.refresh();
    }

    happened(what, value) {
        if (what === "owner") {
            this.running = value;
            this.drawHead();
        }
        if (what === "closed")
            this.failed(value?.message || value?.problem || "The connection was closed");
        if (what === "pending")
            this.newly.push(value);
        this.refresh();
    }

    /** Read again what is shown: soon, and once for changes that come together. */
    refresh() {
        if (this.busy) {
            this.again = true;
            return;
        }
        this.due ??= window.setTimeout(() => this.read(), this.lastRead && this.now() - this.lastRead < PAUSE ? PAUSE : 0);
    }

    async read() {
        this.due = null;
        this.busy = true;
        this.lastRead = this.now();
        try {
            await this.readParts();
            await this.readView();
            this.running = true;
            this.problem = "";
        } catch (error) {
            this.problem = errorText(error);
        }
        this.busy = false;
        this.draw();
        document.documentElement.dataset.ready = "yes";
        if (this.newly.length) {
            announce(this.newly.length === 1
                ? `${this.newly[0]} waits for approval.`
                : `${plural(this.newly.length, "more child waits", "more children wait")} for approval.`);
            this.newly = [];
        }
        if (this.again) {
            this.again = false;
            this.refresh();
        }
    }

    async readParts() {
        const { gateway, state } = this;
        const [manager, counts] = await Promise.all([gateway.properties("", "Manager"), gateway.counts()]);
        Object.assign(state, { manager, counts });
        if (this.path.length)
            return;
        const [store, messages, site, ...clouds] = await Promise.all([
            gateway.properties("secretstore", "SecretStore"), gateway.properties("messages", "Messages"),
            gateway.properties("site", "Site"),
            ...manager.Providers.map(name => gateway.provider(name)),
        ]);
        Object.assign(state, { store, messages, site, clouds });
    }

    async readView() {
        const [view, id] = this.path;
        if (!view)
            await this.readList("queue", { state: "pending" });
        else if (view === "children" && id)
            await this.readChild(id);
        else if (view === "children")
            await this.readList("list", filters(this.state.list.filter));
    }

    async readList(which, filter) {
        const list = this.state[which];
        const { rows, next } = await this.gateway.page(filter, after(list.page));
        if (this.state[which] !== list) {  // another page or search meanwhile
            this.again = true;
            return;
        }
        if (!rows.length && list.page.afters.length > 1) {
            this.state[which] = { ...list, page: previousPage(list.page) };
            this.again = true;
            return;
        }
        this.state[which] = { ...list, rows, page: loaded(list.page, next), known: true };
    }

    async readChild(id) {
        try {
            const [described, [action, rule, reasons]] = await Promise.all([
                this.gateway.describe(id), this.gateway.ask("TestAdmission", id),
            ]);
            this.state.child = { id, described, rules: { action, rule, reasons }, problem: "" };
        } catch (error) {
            this.state.child = { id, described: null, rules: null, problem: errorText(error) };
        }
    }

    draw() {
        const row = document.activeElement?.closest("[data-id]");
        const place = this.main.contains(row) ? [...row.parentElement.children].indexOf(row) : -1;
        this.drawHead();
        const [view, id] = this.path;
        if (view === "setup")
            this.drawSetup();
        else
            show(this.main, view === "children" ? (id ? child(this) : children(this)) : overview(this));
        if (place >= 0 && !row.isConnected)
            this.refocus(place);
    }

    /** The row with the focus has gone: the next one gets it, so that the keyboard goes on there. */
    refocus(place) {
        const rows = [...this.main.querySelectorAll(".queued, .table tbody tr")];
        const next = rows[Math.min(place, rows.length - 1)];
        (next?.querySelector("button, a:not([tabindex])") ?? this.main).focus();
    }

    drawSetup() {
        if (!this.setup.root.isConnected)
            this.main.replaceChildren(this.setup.view());
    }

    drawHead() {
        const { manager, counts } = this.state;
        const [view] = this.path;
        const tab = (text, path, count) => h("a", {
            href: this.link(path), "aria-current": (path[0] ?? "") === (view ?? "") ? "page" : null,
            "data-focus": `tab ${text}`,
        }, text, count ? h("span", { class: "badge", text: number(count) }) : null);
        show(this.head,
             h("div", { class: "page-title" },
               h("h1", { text: "IoT gateway" }),
               manager.State && this.running ? label(partState(manager.State)) : null),
             h("nav", { class: "tabs", "aria-label": "Views" },
               tab("Overview", [], counts.pending), tab("Children", ["children"]), tab("Setup", ["setup"])));
        const notices = [];
        if (this.running === false && !this.problem)
            notices.push(alert("warning", "gatewayd does not run.",
                               "What is shown is as it was last. It is started when it is asked."));
        if (this.problem)
            notices.push(alert("danger", "gatewayd cannot be asked", this.problem));
        if (manager.RestartNeeded?.length)
            notices.push(alert("info", "gatewayd needs a restart",
                               `What was changed takes effect then: ${manager.RestartNeeded.join(", ")}.`));
        if (this.refusal)
            notices.push(h("div", { class: "alert danger", role: "alert", "data-refusal": true },
                           h("strong", { text: this.refusal }),
                           button("Close", "link", () => this.failed(""), { "data-focus": "close refusal" })));
        show(this.notice, ...notices);
    }

    failed(text) {
        this.refusal = text;
        this.drawHead();
    }

    /** Say that a change was made, and read again. */
    async did(text, change) {
        await change;
        this.failed("");
        announce(text);
        this.refresh();
    }

    /** Make a change that no dialog asks about; what goes wrong is shown above the view. */
    async act(text, run) {
        try {
            await run();
            this.failed("");
            if (text)
                announce(text);
        } catch (error) {
            this.failed(error instanceof Refused ? error.message : errorText(error));
        }
        this.refresh();
    }

    /** Search for something else; the address follows, so that it can be kept. */
    search(change) {
        const { list } = this.state;
        const filter = { ...list.filter, ...change };
        this.state.list = { ...list, filter, page: firstPage() };
        window.clearTimeout(this.typing);
        this.typing = window.setTimeout(() => {
            if (this.path.join("/") !== "children")
                return;
            const given = Object.fromEntries(Object.entries(filter).filter(([, value]) => value));
            this.followed = JSON.stringify(filter);
            cockpit.location.replace(["children"], given);
            this.refresh();
        }, TYPING);
    }

    turn(which, does) {
        const list = this.state[which];
        const page = does === "next" ? nextPage(list.page) : previousPage(list.page);
        this.state[which] = { ...list, page };
        this.refresh();
        announce(does === "next" ? "Next page." : "Previous page.");
    }
}

cockpit.transport.wait(() => {
    follow(cockpit.info?.version ?? cockpit.info?.ws?.version ?? "");
    const page = new Page();
    page.start();
});
