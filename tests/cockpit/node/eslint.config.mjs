// What the page in Cockpit, and its tests for Node.js, are checked for.

import js from "@eslint/js";
import globals from "globals";

const MARKUP = ["innerHTML", "outerHTML", "insertAdjacentHTML", "write", "writeln"];
// Modules without a document, and without Cockpit.
const PURE = ["packaging/cockpit/model.js", "packaging/cockpit/setup_form.js"];

export default [
    js.configs.recommended,
    {
        rules: {
            "no-var": "error",
            "prefer-const": "error",
            "eqeqeq": "error",
            "no-eval": "error",
            "no-implied-eval": "error",
            "no-new-func": "error",
            "no-shadow": "error",
            "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
            "max-lines-per-function": ["error", 60],
            "complexity": ["error", 15],
            "no-restricted-properties": [
                "error",
                ...MARKUP.map(property => ({ property, message: "Text from the LAN is no markup: use h()." })),
            ],
        },
    },
    { files: ["packaging/cockpit/*.js"], ignores: PURE, languageOptions: { globals: globals.browser } },
    { files: PURE, languageOptions: { globals: { TextEncoder: "readonly" } } },
    { files: ["tests/cockpit/*.mjs"], languageOptions: { globals: globals.node } },
];
