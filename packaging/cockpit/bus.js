// The D-Bus interface of gatewayd, by way of Cockpit.
//
// What is asked is asked as the user who has logged in, so that the log of decisions has their name.
// What polkit refuses them is asked a second time with administrative access, if it is turned on.

import { errorText, escapedPath, isRefusal } from "./model.js";
import { records } from "./setup_form.js";

const { cockpit } = window;

const NAME = "org.gatewayd1";
const ROOT = "/org/gatewayd1";
const PROPERTIES = "org.freedesktop.DBus.Properties";
const PAGE_LIMIT = 50;

/** What was refused; its text is the daemon's own, with what to do. */
export class Refused extends Error {}

export class Gateway {
    constructor() {
        this.client = cockpit.dbus(NAME, { bus: "system" });
        this.admin = null;
    }

    /** Call method of the Manager that changes nothing; resolves to the list of its results. */
    ask(method, ...values) {
        return this.client.call(ROOT, `${NAME}.Manager`, method, values);
    }

    /** Call a method of the Manager that changes something.  Throws Refused, or what D-Bus says. */
    async change(method, types, ...values) {
        return this.changeAt(ROOT, "Manager", method, types, ...values);
    }

    async changeAt(path, name, method, types, ...values) {
        const call = client => client.call(path, `${NAME}.${name}`, method, values, { type: types });
        try {
            return await call(this.client);
        } catch (refusal) {
            if (!isRefusal(refusal))
                throw refusal;
            try {
                return await call(this.administrator());
            } catch (error) {
                if (!error.problem && !isRefusal(error))
                    throw error;
                this.admin = null;
                throw new Refused(errorText(refusal, true));
            }
        }
    }

    administrator() {
        this.admin ??= cockpit.dbus(NAME, { bus: "system", superuser: "require" });
        return this.admin;
    }

    /** The properties of an object, as plain values. */
    async properties(place, name) {
        const path = place ? `${ROOT}/${place}` : ROOT;
        const [found] = await this.client.call(path, PROPERTIES, "GetAll", [`${NAME}.${name}`]);
        return plain(found);
    }

    provider(name) {
        return this.properties(`provider/${escapedPath(name)}`, "Provider");
    }

    /** One page of children: {rows, next}.  filters: plain texts. */
    async page(filters, after) {
        const given = Object.fromEntries(
            Object.entries(filters).map(([key, value]) => [key, cockpit.variant("s", value)]));
        const [rows, next] = await this.client.call(
            ROOT, `${NAME}.Manager`, "ListDevicesFiltered", [given, after, PAGE_LIMIT],
            { type: "a{sv}su" });
        return { rows: rows.map(row), next };
    }

    async counts() {
        return (await this.ask("CountDevices"))[0];
    }

    async describe(id) {
        return plain((await this.ask("DescribeDevice", id))[0]);
    }

    /**
     * Call back when something has changed: "children", with the rows that have; "parts", of the
     * gateway; "pending", with the name of a child that waits; and "owner", with whether gatewayd runs.
     */
    follow(listener) {
        const manager = { path: ROOT, interface: `${NAME}.Manager` };
        this.client.subscribe({ ...manager, member: "DevicesChanged" }, (_path, _name, _signal, [rows]) => {
            listener("children", rows.map(row));
        });
        this.client.subscribe({ ...manager, member: "ApprovalNeeded" }, (_path, _name, _signal, [, , name]) => {
            listener("pending", name);
        });
        for (const match of [
            { path: ROOT }, { path: `${ROOT}/secretstore` }, { path: `${ROOT}/messages` }, { path: `${ROOT}/site` },
            { path_namespace: `${ROOT}/provider` },
        ]) {
            const changed = { ...match, interface: PROPERTIES, member: "PropertiesChanged" };
            this.client.subscribe(changed, () => listener("parts", null));
        }
        this.client.addEventListener("owner", (_event, owner) => listener("owner", Boolean(owner)));
        this.client.addEventListener("close", (_event, problem) => listener("closed", problem));
    }
}

function row([id, state, provider, name, since]) {
    return { id, state, provider, name, since };
}

/** Values without their signatures. */
function plain(value) {
    if (Array.isArray(value))
        return value.map(plain);
    if (value && typeof value === "object") {
        if (typeof value.t === "string" && "v" in value && Object.keys(value).length === 2)
            return plain(value.v);
        return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
    }
    return value;
}

/**
 * Run gatewayctl as an administrator.  Resolves to the objects that it prints, and rejects with what it
 * says.  input: for its standard input.  said: is called with all objects so far, whenever there are more.
 */
export async function gatewayctl(words, input = null, said = () => {}) {
    const process = cockpit.spawn(["gatewayctl", "--json", ...words], { superuser: "require", err: "message" });
    const found = [];
    let rest = "";
    process.stream(text => {
        const [more, unfinished] = records(rest + text);
        rest = unfinished;
        found.push(...more);
        said(found);
    });
    if (input !== null)
        process.input(input);
    try {
        await process;
    } catch (error) {
        if (error.problem === "access-denied")
            throw new Refused("This needs administrative access: turn it on first.");
        throw new Error(found.at(-1)?.Message ?? errorText(error));
    }
    return found;
}
