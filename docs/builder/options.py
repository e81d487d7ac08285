"""Tables of options, read from the YAML files under configs/: key, default, and the comment on the key's line."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).resolve().parents[2] / "configs"

# What keys mean that stand in many configs alike, and so have no comment there.
_SAME = {
    "name": "in tables, and of the folders of results",
    "root": "where the videos are",
    "seed": "of all draws",
    "checkpoint": "weights instead of `weights`: a file, or random",
    "weights": "file of the weights: below data_root, or one of the package",
    "class_names": "a packaged list, a file of names, or a list",
    "target_layer": "the layer that Grad-CAM and its like read",
    "channels_last": "memory layout: usually the faster one for 3D convolutions",
    "hint": "what the error says where the weights are missing",
    "num_classes": "outputs of the network",
    "frames": "frames of a clip",
    "interval": "source frames between them",
    "size": "height and width of the input, pixels",
    "mean": "of pixels in [0, 1], per colour",
    "std": "likewise",
    "resize": "short: the short side, then a centre crop · squash",
    "short": "short side before the crop; null = the size",
}


@dataclass(frozen=True)
class Option:
    """A key with its default as the YAML has it, its meaning, and the config (``base``, ``aosa``) that sets it."""

    key: str
    default: str
    meaning: str
    origin: str


@dataclass
class Config:
    """One YAML file with what it inherits.

    Attributes:
        about: the comment at its head.
        groups: of a script: group → default choice.
        raw: its plain content, inherited keys included.
    """

    name: str
    about: str = ""
    target: str = ""
    options: dict[str, Option] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)


def names(group: str) -> list[str]:
    """The configs of a group.

    Raises:
        ValueError: there is no such group.
    """
    found = sorted(p.stem for p in (CONFIGS / group).glob("*.yaml"))
    if not group or not found:
        raise ValueError(f"there is no config group {group!r}; there are {', '.join(groups())}")
    return found


def groups() -> list[str]:
    """The groups of configs."""
    return sorted(p.name for p in CONFIGS.iterdir() if p.is_dir())


def read(name: str) -> Config:
    """Read ``explainer/aosa`` or a script's own config (``explain``), and what it inherits by ``defaults``.

    Raises:
        ValueError: there is no such file.
    """
    path = CONFIGS / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(f"there is no configs/{name}.yaml")
    text = path.read_text(encoding="utf-8")
    plain = yaml.safe_load(text) or {}
    group, _, own = name.rpartition("/")
    config = Config(own, about=_head(text), target=plain.get("_target_", ""))
    written = _written(text, own)
    parents = plain.pop("defaults", ["_self_"])
    # As Hydra has it: what comes later wins, and a file comes last unless it says otherwise.
    for parent in parents if "_self_" in parents else [*parents, "_self_"]:
        if parent == "_self_":
            _take(config, written)
            config.raw |= plain
        elif isinstance(parent, str) and parent.startswith("defaults/"):
            continue  # of another key, which has a page of its own
        elif isinstance(parent, str) and parent.startswith("/"):
            config.raw |= read(parent[1:]).raw
        elif isinstance(parent, str):
            inherited = read(f"{group}/{parent}" if group else parent)
            _take(config, inherited.options)
            config.groups |= inherited.groups
            config.raw |= inherited.raw
            config.target = config.target or inherited.target
        else:
            config.groups |= {k: str(v or "null") for k, v in parent.items() if not k.startswith("optional ")}
    return config


def _take(config: Config, options: dict[str, Option]) -> None:
    """Later options win; one that is given without a comment keeps that of the option it overrides."""
    for key, option in options.items():
        before = config.options.get(key)
        inherits = before is not None and not option.meaning
        config.options[key] = replace(option, meaning=before.meaning) if before and inherits else option


def _head(text: str) -> str:
    lines = re.match(r"(?:#.*\n)*", text)[0].splitlines()  # type: ignore[index]
    return " ".join(line.lstrip("# ") for line in lines if not line.startswith("# @package"))


def _written(text: str, origin: str) -> dict[str, Option]:
    """The options that a file itself sets, in its order; ``hydra``, ``defaults`` and keys such as _target_ left out."""
    lines, found = text.splitlines(), {}

    def walk(node: yaml.MappingNode, prefix: str) -> None:
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if key.value.startswith("_") or name in ("defaults", "hydra"):
                continue
            if isinstance(value, yaml.MappingNode) and not value.flow_style:
                walk(value, f"{name}.")
                continue
            end = value.end_mark
            default = text[value.start_mark.index : value.end_mark.index].strip() or "null"
            if value.start_mark.line > key.start_mark.line:  # a list with a line per item
                default, end = _in_a_line(value), key.end_mark
            found[name] = Option(name, default, _comment(lines, end), origin)

    root = yaml.compose(text)
    if isinstance(root, yaml.MappingNode):
        walk(root, "")
    return found


def _in_a_line(node: yaml.Node) -> str:
    plain = yaml.safe_load(yaml.serialize(node))
    return yaml.safe_dump(plain, default_flow_style=True, width=10**9, sort_keys=False).strip()


def _comment(lines: list[str], end: yaml.Mark) -> str:
    """The comment behind a value, with the lines below that go on in the same column."""
    line = lines[end.line] if end.line < len(lines) else ""
    behind = re.match(r":?\s+# ?(.*)", line[end.column :])
    if not behind:
        return ""
    column = line.index("#", end.column)
    words = [behind[1]]
    for below in lines[end.line + 1 :]:
        if below.lstrip() != below[column:] or not below[column:].startswith("#"):
            break
        words.append(below[column:].lstrip("# "))
    return " ".join(words).strip()


def table(name: str) -> str:
    """The options of one config of a group (``explainer/aosa``), as an HTML table."""
    config, group = read(name), name.partition("/")[0]
    if not config.options:
        return "<p>No options.</p>"
    how = f"<p>As <code>{group}.&lt;option&gt;=&lt;value&gt;</code> on the command line.</p>"
    return f"{how if group not in ('parts', 'defaults') else ''}\n{_rows(config.options.values())}"


def script(name: str, depth: int = 0) -> str:
    """Groups and keys of a script, but for those that all scripts have, as HTML. `depth`: folders above the page."""
    config = read(name)
    rows = [
        (f"<code>{group}=</code>", f"<code>{default}</code>", _links(group, depth))
        for group, default in config.groups.items()
        if group not in read("base").groups
    ]
    text = _table(("choice", "default", "of"), rows) if rows else ""
    return f"{text}\n{_rows(o for o in config.options.values() if o.origin != 'base')}"


def common(depth: int = 0) -> str:
    """The keys that all scripts have."""
    config = read("base")
    rows = [(f"<code>{g}=</code>", f"<code>{default}</code>", _links(g, depth)) for g, default in config.groups.items()]
    return f"{_rows(config.options.values())}\n{_table(('choice', 'default', 'of'), rows)}"


def whole_group(group: str) -> str:
    """Every config of a group: heading, what it is, its options. In Markdown, so that its headings are found."""
    parts = []
    for name in names(group):
        config = read(f"{group}/{name}")
        target = f" <code>{config.target}</code>" if config.target else ""
        parts.append(f"## {name}\n\n<p>{_text(config.about)}{target}</p>\n\n{table(f'{group}/{name}')}\n")
    return "\n".join(parts)


def experiments() -> str:
    """One row per experiment."""
    rows = []
    for name in names("experiment"):
        raw = read(f"experiment/{name}").raw
        paper = " ".join(str(raw[k]) for k in ("paper", "table") if raw.get(k)).replace("_", " ")
        grids = [{"explainers": [], "metrics": [], **raw, **grid} for grid in raw["grids"]]
        of = (", ".join(dict.fromkeys(n for grid in grids for n in _listed(grid[k]))) for k in _GRID)
        rows.append((f'<code id="{name}">{name}</code>', _text(raw["title"]), paper, *map(html.escape, of)))
    head = ("experiment", "what it shows", "paper", "data sets", "models", "explainers", "metrics")
    return _table(head, rows, "experiments")


def explainers(folder: Path) -> str:
    """A row of the index for each line ``<!-- index: names | family | passes | defined for | paper -->`` of a page, by
    family in the order of the pages. In Markdown.

    Raises:
        ValueError: a row of more or fewer cells.
    """
    rows: dict[str, list[str]] = {}
    for page in sorted(folder.glob("*.md")):
        for line in re.findall(r"^<!-- index: (.*) -->$", page.read_text(encoding="utf-8"), re.MULTILINE):
            names, *cells = (cell.strip() for cell in line.split("|"))
            if len(cells) != len(_INDEX) - 1:
                raise ValueError(f"{page.name}: the index has the cells {', '.join(_INDEX)}, not {line}")
            rows.setdefault(cells[0], []).append(f"| [{names}]({page.name}) | {' | '.join(cells)} |")
    lines = [f"| {' | '.join(_INDEX)} |", "| --- " * len(_INDEX) + "|"]
    return "\n".join(lines + [row for family in rows.values() for row in family])


_INDEX = ("name", "family", "forward / backward passes", "defined for", "paper")
_GRID = ("dataset", "models", "explainers", "metrics")


def _listed(value: Any) -> list[str]:
    if found := re.fullmatch(r"\$\{aosa\.registered:(\w+),?([\w,]*)\}", str(value)):
        return [f"all but {found[2].replace(',', ', ')}" if found[2] else "all"]
    return value if isinstance(value, list) else [str(value)]


def _links(group: str, depth: int) -> str:
    page = f"{'../' * depth}options/{group}.html"
    return ", ".join(f'<a href="{page}#{name}">{name}</a>' for name in names(group))


def _rows(options: Any) -> str:
    rows = [(f"<code>{o.key}</code>", _code(o.default), _text(meaning(o))) for o in options]
    return _table(("option", "default", "meaning"), rows)


def meaning(option: Option) -> str:
    """What the YAML says, or what the key means everywhere."""
    taken = re.fullmatch(r"\$\{(\w+)\}", option.default)
    own = f"the key `{taken[1]}` of all scripts" if taken and option.origin != "base" else ""
    return option.meaning or own or _SAME.get(option.key.rpartition(".")[2], "")


def _code(text: str) -> str:
    # Lists may break between their items, nowhere else.
    return f"<code>{html.escape(text)}</code>".replace(",", ",<wbr>")


def _text(comment: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(comment, quote=False)).replace(" | ", " · ")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]], kind: str = "options") -> str:
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    top = "".join(f"<th>{name}</th>" for name in head)
    return f'<table class="{kind}">\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n'
