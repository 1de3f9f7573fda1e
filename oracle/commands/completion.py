"""`oracle completion SHELL`: prints a script with which bash, zsh or fish completes commands, options and choices.

The script is static: to press Tab starts no `oracle`.  It is made from the parser, so a hidden command is not in it.
zsh runs the script of bash.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from oracle.commands.parser import Parser
from oracle.commands.verbs import ALL_KINDS, Arguments, add_command

SHELLS: Final = ("bash", "zsh", "fish")

_HOW: Final = (
    "For bash: add the line `source <(oracle completion bash)` to ~/.bashrc. For zsh: add `source <(oracle completion"
    " zsh)` to ~/.zshrc, after compinit. For fish: `oracle completion fish > ~/.config/fish/completions/oracle.fish`."
)


class Command(NamedTuple):
    path: str  # such as `alias add`; '' for `oracle` alone
    commands: Mapping[str, str]  # the names below it, and what they do
    options: Mapping[str, argparse.Action]
    positionals: list[argparse.Action]


def add(commands: Any) -> None:
    text = "print a script that completes commands, options and choices when you press Tab"
    parser = add_command(commands, "completion", _print_script, text, _HOW)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help="bash, zsh or fish")


def _print_script(arguments: Arguments) -> None:
    print(write_script(arguments.root, arguments.shell), end="")  # noqa: T201 - the command's answer


def write_script(parser: Parser, shell: str) -> str:
    commands = list(list_commands(parser))
    if shell == "fish":
        return "".join(f"{line}\n" for line in _write_fish(commands))
    lines = list(_write_bash(commands))
    return "".join(f"{line}\n" for line in ([*_ZSH, *lines] if shell == "zsh" else lines))


def list_commands(parser: Parser, path: str = "") -> Iterator[Command]:
    below = parser.list_commands()
    yield Command(
        path, {name: text for name, (_, text) in below.items()}, parser.list_options(), parser.list_positionals()
    )
    for name, (child, _) in below.items():
        yield from list_commands(child, f"{path} {name}".strip())


def list_choices(action: argparse.Action) -> list[str]:
    """Return the values of a closed list; none for another one."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if ALL_KINDS not in (action.help or ""):
        return []
    from oracle.identifiers import KINDS  # noqa: PLC0415 - imports as in cli

    return list(KINDS)


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs != 0


# bash and zsh -----------------------------------------------------------------------------------------------------

_ZSH: Final = ("autoload -U +X bashcompinit && bashcompinit",)
_BASH: Final = """\
_oracle() {
    local path="" place=0 before="" word="" words="" i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if _oracle_takes_value "$path $before"; then before=""; continue; fi
        before="$word"
        case "$word" in -*) continue ;; esac
        before=""
        if _oracle_is_command "${path:+$path }$word"; then path="${path:+$path }$word"; else place=$((place + 1)); fi
    done
    word="${COMP_WORDS[COMP_CWORD]}"
    if _oracle_takes_value "$path $before"; then
        words="$(_oracle_values "$path $before")"
        if [ -z "$words" ]; then COMPREPLY=($(compgen -f -- "$word")); return; fi
    else
        case "$word" in
            -*) words="$(_oracle_options "$path")" ;;
            *) words="$(_oracle_words "$path" "$place")"
               if [ -z "$words" ]; then COMPREPLY=($(compgen -f -- "$word")); return; fi ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _oracle oracle"""


def _write_bash(commands: list[Command]) -> Iterator[str]:
    yield "# Completion of oracle. Made by: oracle completion"
    paths = "|".join(f'"{each.path}"' for each in commands if each.path)
    yield f'_oracle_is_command() {{ case "$1" in {paths}) return 0 ;; esac; return 1; }}'
    taking = "|".join(
        f'"{each.path} {name}"' for each in commands for name, action in each.options.items() if _takes_value(action)
    )
    yield f'_oracle_takes_value() {{ case "$1" in {taking}) return 0 ;; esac; return 1; }}'
    values = [
        (f"{each.path} {name}", list_choices(action)) for each in commands for name, action in each.options.items()
    ]
    yield from _write_function("values", "$1", values)
    yield from _write_function("options", "$1", [(each.path, list(each.options)) for each in commands])
    words = [(f"{each.path} 0", list(each.commands)) for each in commands]
    places = [
        (f"{each.path} {place}", list_choices(action))
        for each in commands
        for place, action in enumerate(each.positionals)
    ]
    yield from _write_function("words", "$1 $2", [*words, *places])
    yield _BASH


def _write_function(name: str, given: str, cases: list[tuple[str, list[str]]]) -> Iterator[str]:
    yield f"_oracle_{name}() {{"
    yield f'    case "{given}" in'
    for case, words in cases:
        if words:
            yield f'        "{case}") echo "{" ".join(words)}" ;;'
    yield "    esac"
    yield "}"


# fish -------------------------------------------------------------------------------------------------------------

_FISH: Final = """\
function __oracle_is_at
    set -l words (string match --invert -- '-*' (commandline -opc)[2..-1])
    set -l path (string split ' ' -- $argv[1])
    test -z "$argv[1]"; and set path
    if test "$argv[2]" = exactly
        test (count $words) -eq (count $path); or return 1
    end
    test (count $words) -ge (count $path); or return 1
    test (count $path) -eq 0; and return 0
    test "$words[1..$(count $path)]" = "$path"
end
complete -c oracle -f"""


def _write_fish(commands: list[Command]) -> Iterator[str]:
    yield "# Completion of oracle. Made by: oracle completion"
    yield _FISH
    for each in commands:
        for name, text in each.commands.items():
            yield f"complete -c oracle -n '__oracle_is_at \"{each.path}\" exactly' -a {name} -d {_quote(text)}"
        for name, action in each.options.items():
            if name.startswith("--") and not (each.commands and each.path):
                yield f"complete -c oracle -n '__oracle_is_at \"{each.path}\"' -l {name[2:]}{_write_value(action)}"
        choices = [choice for action in each.positionals for choice in list_choices(action)]
        if choices:
            yield f"complete -c oracle -n '__oracle_is_at \"{each.path}\" exactly' -a {_quote(' '.join(choices))}"


def _write_value(action: argparse.Action) -> str:
    if not _takes_value(action):
        return ""
    choices = list_choices(action)
    return f" -x -a {_quote(' '.join(choices))}" if choices else " -r -F"


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
