"""`infc completion SHELL`: a script that completes commands, their options and file names."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import Exit
from .main import COMMANDS
from .options import command_parser

DESCRIPTION = """Print a completion script.
  bash   infc completion bash > ~/.local/share/bash-completion/completions/infc
  zsh    infc completion zsh > "${fpath[1]}/_infc"
  fish   infc completion fish > ~/.config/fish/completions/infc.fish"""

_BASH = """_infc() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@COMMANDS@ --help --version" -- "$word"))
    elif [ "${word#-}" != "$word" ]; then
        local options
        options=$(infc "${COMP_WORDS[1]}" --help 2>/dev/null | grep -oE -- '(^|[ ,])--?[a-z][a-z-]*' | tr -d ' ,' | sort -u)
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    else
        COMPREPLY=($(compgen -f -- "$word"))
    fi
}
complete -o filenames -F _infc infc
"""

_ZSH = """#compdef infc
_infc() {
    local -a commands options
    commands=(
@ROWS@
    )
    if (( CURRENT == 2 )); then
        _describe 'command' commands
    elif [[ $words[CURRENT] == -* ]]; then
        options=(${(u)${(f)"$(infc $words[2] --help 2>/dev/null | grep -oE -- '(^|[ ,])--?[a-z][a-z-]*' | tr -d ' ,')"}})
        _describe 'option' options
    else
        _files
    fi
}
_infc "$@"
"""


def run(argv: Sequence[str]) -> int:
    """Prints the script of one shell."""
    parser = command_parser("completion", DESCRIPTION, json=False)
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))
    print(script(parser.parse_args(argv).shell), end="")
    return Exit.OK


def script(shell: str) -> str:
    """The completion script of `bash`, `zsh` or `fish`."""
    if shell == "bash":
        return _BASH.replace("@COMMANDS@", " ".join(COMMANDS))
    if shell == "zsh":
        rows = "\n".join(f"        '{name}:{_plain(c.help)}'" for name, c in COMMANDS.items())
        return _ZSH.replace("@ROWS@", rows)
    lines = [
        f"complete -c infc -n __fish_use_subcommand -f -a {name} -d '{_plain(c.help)}'" for name, c in COMMANDS.items()
    ]
    lines.append("complete -c infc -n 'not __fish_use_subcommand' -F")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return text.replace("'", "").replace(":", ",")
