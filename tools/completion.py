"""Write packaging/bash-completion and packaging/zsh-completion from the argument parsers.

python -m tools.completion
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from gatewayd import __main__ as daemon
from gatewayd.cli.main import build_parser

PACKAGING = Path(__file__).parent.parent / "packaging"
DIRECTORY, ZSH_DIRECTORY = PACKAGING / "bash-completion", PACKAGING / "zsh-completion"

ZSH_SCRIPT = """\
#compdef {name}
# Completion of {name} for zsh, written by tools/completion.py.

# What may follow a command and what it does; values of its options: words, @id or @file.
local -A after=(
{after}
)
local -A value=(
{value}
)

local line={name} last='' one wanted
for one in "${{(@)words[2,CURRENT-1]}}"; do
    if [[ -n $last && -n ${{value[$line $last]+set}} ]]; then
        last=''
        continue
    fi
    last=$one
    [[ -n ${{after[$line $one]+set}} ]] && line+=" $one"
done
wanted=${{after[$line]}}
[[ -n $last && -n ${{value[$line $last]+set}} ]] && wanted=${{value[$line $last]}}

local -a described files
for one in "${{(@f)wanted}}"; do
    case $one in
        @id)
            described+=($(busctl --auto-start=no --timeout=2 call org.gatewayd1 /org/gatewayd1 \\
                org.gatewayd1.Manager ListDevices 2>/dev/null | grep -oE 'child-[0-9a-f]{{12}}')) ;;
        @file) files=(yes) ;;
        ?*) described+=("$one") ;;
    esac
done
(( $#described )) && _describe '{name}' described
(( $#files )) && _files
return 0
"""

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


def zsh_completion(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the script that completes one program in zsh."""
    commands = dict(_walk(parser, name))
    values = {
        f"{words} {option}": _values(action).replace(" ", "\n")
        for words, one in commands.items()
        for action in one._actions
        for option in action.option_strings
        if action.nargs != 0
    }
    after = {words: "\n".join(_described(one)) for words, one in commands.items()}
    return ZSH_SCRIPT.format(name=name, after=_zsh_table(after), value=_zsh_table(values))


def _described(parser: argparse.ArgumentParser) -> Iterator[str]:
    """Yield what may follow, each as "word:what it does"."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield _item(choice.dest, choice.help)
        elif action.option_strings:
            yield _item(action.option_strings[-1], action.help)
        else:
            yield from _values(action).split()


def _item(word: str, help_: str | None) -> str:
    about = " ".join((help_ or "").split()).replace("%(default)s", "").replace(":", "\\:")
    return f"{word}:{about}" if about else word


def _zsh_table(entries: Mapping[str, str]) -> str:
    return "\n".join(f"    {_single(k)} {_single(v)}" for k, v in sorted(entries.items()))


def _single(text: str) -> str:
    """Return a text quoted for zsh; lines stay lines."""
    return "'" + text.replace("'", "'\\''") + "'"


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
        (ZSH_DIRECTORY / f"_{name}").write_text(zsh_completion(name, parser))


if __name__ == "__main__":
    main()
