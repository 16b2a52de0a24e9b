// Light or dark, as the user has chosen in Cockpit, and the looks of its version.

const KEY = "shell:style";
// The first version whose pages look as those of PatternFly 6 do.
const ROUND = 331;

function isDark(style) {
    const preferred = window.matchMedia("(prefers-color-scheme: dark)").matches;
    return style === "dark" || ((style === "auto" || !style) && preferred);
}

function stored() {
    try {
        return window.localStorage.getItem(KEY);
    } catch {
        return null;
    }
}

function apply(style) {
    document.documentElement.classList.toggle("dark", isDark(style ?? stored()));
}

/** Follow the choice of the user from now on.  version: of Cockpit, as text; "" if not known. */
export function follow(version) {
    document.documentElement.classList.toggle("square", Number.parseInt(version, 10) < ROUND);
    window.addEventListener("storage", event => {
        if (event.key === KEY)
            apply();
    });
    window.addEventListener("cockpit-style", event => apply(event.detail?.style));
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => apply());
    apply();
}
