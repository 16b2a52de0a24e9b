"""Write packaging/bash-completion from the argument parsers.

python -m tools.completion
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from gatewayd import __main__ as daemon
from gatewayd.cli.main import build_parser

DIRECTORY = Path(__file__).parent.parent / "packaging/bash-completion"

SCRIPT = """\
# Completion of {name} for bash, written by tools/completion.py.
_{name}() {{
    # What may follow a command, and its options that take a value: words, @id or @file.
    local -A after=(
{after}
    )
    local -A value=(
{value}
    )
    local word=${{COMP_WORDS[COMP_CWORD]}} line={name} last='' one wanted
    for one in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        if [ -n "$last" ] && [ -n "${{value[$line $last]+set}}" ]; then
            last=''
            continue
        fi
        last=$one
        [ -n "${{after[$line $one]+set}}" ] && line+=" $one"
    done
    wanted=${{after[$line]}}
    [ -n "$last" ] && [ -n "${{value[$line $last]+set}}" ] && wanted=${{value[$line $last]}}
    if [[ $wanted == *@id* ]] && [[ $word != -* ]]; then
        wanted+=" $(busctl --auto-start=no --timeout=2 call org.gatewayd1 /org/gatewayd1 \\
            org.gatewayd1.Manager ListDevices 2>/dev/null | grep -oE 'child-[0-9a-f]{{12}}')"
    fi
    one=${{wanted//@id/}}
    mapfile -t COMPREPLY < <(compgen -W "${{one//@file/}}" -- "$word")
    if [[ $wanted == *@file* ]] && [[ $word != -* ]]; then
        compopt -o filenames 2>/dev/null
        mapfile -t -O "${{#COMPREPLY[@]}}" COMPREPLY < <(compgen -f -- "$word")
    fi
}}
complete -F _{name} {name}
"""


def parsers() -> Mapping[str, argparse.ArgumentParser]:
    """Return the parser of each program."""
    return {"gatewayctl": build_parser(), "gatewayd": daemon._parser()}


def completion(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the script that completes one program."""
    commands = dict(_walk(parser, name))
    values = {
        f"{words} {option}": _values(action)
        for words, one in commands.items()
        for action in one._actions
        for option in action.option_strings
        if action.nargs != 0
    }
    after = {words: _after(one) for words, one in commands.items()}
    return SCRIPT.format(name=name, after=_table(after), value=_table(values))


def _walk(
    parser: argparse.ArgumentParser, words: str
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield words, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from _walk(inner, f"{words} {word}")


def _after(parser: argparse.ArgumentParser) -> str:
    """Return what may follow: commands or arguments, then options by their long names."""
    plain = [_values(action) for action in parser._actions if not action.option_strings]
    options = [action.option_strings[-1] for action in parser._actions if action.option_strings]
    return " ".join(word for word in (*plain, *sorted(options)) if word)


def _values(action: argparse.Action) -> str:
    if action.choices:
        return " ".join(map(str, action.choices))
    if action.type is Path:
        return "@file"
    return "@id" if action.dest == "id" else ""


def _table(entries: Mapping[str, str]) -> str:
    return "\n".join(f"        [{key!r}]={value!r}" for key, value in sorted(entries.items()))


def main() -> None:
    """Write the scripts."""
    for name, parser in parsers().items():
        (DIRECTORY / name).write_text(completion(name, parser))


if __name__ == "__main__":
    main()
