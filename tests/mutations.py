"""Changes of one token of a file of C, and copies of its functions that have them: what tests/mutants.py tries."""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

UNCHANGED = 1_000_000
"""Numbers of copies without change begin here."""

SWAPS = {
    "+": "-",
    "-": "+",
    "*": "/",
    "/": "*",
    "%": "/",
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "&": "|",
    "|": "&",
    "<<": ">>",
    ">>": "<<",
    "+=": "-=",
    "-=": "+=",
    "*=": "/=",
    "/=": "*=",
    "&=": "|=",
    "|=": "&=",
}
NO_CODE = re.compile(
    r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'|^[ \t]*#(?:\\\n|[^\n])*', re.DOTALL | re.MULTILINE
)
TOKEN = re.compile(
    r"(?<=\s)([-+*/%<>&|]|[<>=!]=|&&|\|\||<<|>>|[-+*/&|]=)(?=\s)"
    r"|(?<![\w.%])(\d+\.?\d*(?:e-?\d+)?)(?![\w.])"
    r"|\bif \(|(\+\+|--)"
)
HEAD = re.compile(
    r"^(?P<type>[A-Za-z_][^;{}=\n]*?[ *])(?P<name>(?:FN|V)\(\w+\)|(?!FN\b|V\b|__attribute__)\w+)"
    r"\((?P<parameters>[^;{}]*)\) \{",
    re.MULTILINE,
)


@dataclass
class Function:
    """Where a function stands in its file, and how it is called again."""

    start: int
    body: int
    end: int
    type: str
    name: str
    arguments: str


@dataclass
class Mutant:
    """A change of one token of a file."""

    file: str
    start: int
    end: int
    new: str
    line: int
    was: str
    becomes: str
    function: Function | None
    runs: int
    nth: int = 0

    @property
    def key(self):
        """What stays where other lines change."""
        return self.file, self.was, self.becomes, self.nth

    def __str__(self):
        return f"{self.file}:{self.line}: {self.was}\n    {self.becomes}"


def without_strings(text):
    """The text with blanks in the place of comments, strings, characters and lines of the preprocessor."""
    return NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match.group(0)), text)


def closed(code, start):
    """The position of the bracket that closes the one before `start`."""
    opening = code[start - 1]
    closing = {"(": ")", "{": "}"}[opening]
    depth = 1
    for k in range(start, len(code)):
        depth += (code[k] == opening) - (code[k] == closing)
        if depth == 0:
            return k
    return None


def argument_names(parameters):
    """The names of parameters as a call has them, or None where there is no such call."""
    if parameters.strip() in ("", "void"):
        return ""
    names = []
    for one in re.split(r",(?![^()]*\))", parameters):
        match = re.search(r"\(\*(\w+)\)\(|(\w+)(?:\[[^\]]*\])*\s*$", one)
        if match is None:
            return None
        names.append(match.group(1) or match.group(2))
    return ", ".join(names)


def functions_of(code):
    """The functions of a file that can be called with the arguments that they were given."""
    found = []
    for match in HEAD.finditer(code):
        arguments = argument_names(match.group("parameters"))
        end = closed(code, match.end())
        if arguments is not None and end is not None:
            found.append(Function(match.start(), match.end(), end + 1, match.group("type"), match.group("name"), arguments))
    return found


def changes_of(code):
    """(start, end, replacement) of each change that a file allows."""
    for match in TOKEN.finditer(code):
        operator, number = match.group(1), match.group(2)
        if operator:
            yield match.start(1), match.end(1), SWAPS[operator]
        elif number in ("0", "1") and code.endswith("return ", 0, match.start()):
            yield match.start(), match.end(), str(1 - int(number))
        elif number:
            yield match.start(), match.end(), str(int(number) + 1) if number.isdigit() else f"(1.25 * {number})"
        elif match.group(3):
            yield match.start(), match.end(), "--" if match.group(3) == "++" else "++"
        elif (close := closed(code, match.end())) is not None:
            yield match.start(), close + 1, "if (!(" + code[match.end() : close] + "))"


def mutants_of(path, file):
    """All mutants of a file."""
    text = path.read_text()
    code = without_strings(text)
    functions = functions_of(code)
    found = []
    for start, end, new in changes_of(code):
        if new.startswith("if (!("):
            new = "if (!(" + text[start + 4 : end] + ")"
        first, last = text.rfind("\n", 0, start) + 1, text.find("\n", end)
        becomes = " ".join((text[first:start] + new + text[end:last]).split())
        inside = next((f for f in functions if f.body <= start and end <= f.end), None)
        if inside is None and (
            code[first:last].startswith(("enum", "typedef")) or any(f.start <= start < f.body for f in functions)
        ):
            continue
        was = " ".join(text[first:last].split())
        line = text.count("\n", 0, start) + 1
        anywhere = inside and re.match(r"case\b[^:]*$", code[first:start].strip())  # in a label
        runs = text.count("\n", 0, inside.body) + 1 if anywhere else line
        found.append(Mutant(file, start, end, new, line, was, becomes, inside, runs))
    times = Counter()
    for m in found:
        m.nth = times[m.key]
        times[m.file, m.was, m.becomes, 0] += 1
    return found


def with_copies(text, mutants):
    """The text with a copy of its function for each mutant and one without change, which are not optimised into others.

    Also {number: (first line, last line)} of the copies, and {number: number of the copy without change}.
    """
    by = defaultdict(list)
    for number, m in mutants.items():
        by[m.function.start].append(number)
    lines, unchanged = {}, {}
    out, at = "extern int pn_mutant;\n", 0
    for start in sorted(by):
        f = mutants[by[start][0]].function
        out += text[at : f.body].rstrip(" {") + ";\n"  # declared: it may call itself
        named, none = f.start + len(f.type), UNCHANGED + by[start][0]
        kind = "__attribute__((noipa, used)) " + re.sub(r"\balways_inline\b", "", f.type)
        cases = ""
        for number in [none, *by[start]]:
            name = f"{f.name[:-1]}_m{number})" if f.name.endswith(")") else f"{f.name}_m{number}"
            first = out.count("\n") + 1
            rest = text[named + len(f.name) : f.end]
            if number != none:
                m = mutants[number]
                rest = text[named + len(f.name) : m.start] + m.new + text[m.end : f.end]
                lines[number], unchanged[number] = (first, first + rest.count("\n")), none
                call = f"{name}({f.arguments});"
                cases += f"case {number}: " + (f"{call} return; " if re.search(r"\bvoid $", f.type) else f"return {call} ")
            out += kind + name + rest + "\n"
        out += f"{text[f.start : f.body]} switch (pn_mutant) {{ {cases}default: break; }}"
        at = f.body
    return out + text[at:], lines, unchanged


def code_of_copies(assembler):
    """{number: the code of a mutant's function for each precision and number of lanes}, without the names of labels."""
    found = defaultdict(dict)
    for match in re.finditer(r"^(\w+?_m(\d+)(?:_f\w+)?):\n(.*?)^\t\.size\t\1,", assembler, re.MULTILINE | re.DOTALL):
        name, number = match.group(1), match.group(2)
        code = match.group(3)
        labels = {label: str(k) for k, label in enumerate(dict.fromkeys(re.findall(r"\.L[A-Z]{0,3}\d+\b", code)))}
        code = re.sub(r"\.L(?!C)[A-Z]*\d+\b", lambda label, labels=labels: f".L_{labels[label.group(0)]}", code)
        found[int(number)][name.replace(f"_m{number}", "")] = code.replace(name, "")
    return found
