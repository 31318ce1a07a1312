"""The commands of the command line: rows of one table and a module each."""

import argparse
import importlib
import subprocess
import sys

import pytest

from pynode.app import cli, commands


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command_is_a_row_and_a_module(name, capsys):
    module = importlib.import_module(f"pynode.app.commands.{name}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    assert callable(module.run) and module.EXAMPLE.startswith(f"pynode {name}")
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    words = commands.COMMANDS[name]
    assert words[0].upper() + words[1:] + "." in text and module.EXAMPLE in text


def test_the_list_of_commands_is_the_table(capsys):
    assert cli.main([]) == 2
    text = " ".join(capsys.readouterr().out.split())
    assert all(words in text for words in commands.COMMANDS.values())


def test_a_new_command_is_found(monkeypatch, capsys):
    class Greet:
        EXAMPLE = "pynode greet you"

        @staticmethod
        def add_arguments(parser):
            parser.add_argument("name")

        @staticmethod
        def run(args):
            if args.name == "nobody":
                raise commands.UserError("there is nobody to greet")
            print("hello", args.name)

    monkeypatch.setitem(commands.COMMANDS, "greet", "say hello")
    monkeypatch.setitem(sys.modules, "pynode.app.commands.greet", Greet)
    assert cli.main(["greet", "you"]) == 0 and capsys.readouterr().out == "hello you\n"
    assert cli.main(["greet", "nobody"]) == 2
    assert capsys.readouterr().err == "pynode: error: there is nobody to greet\n"


def test_a_command_imports_only_what_it_needs():
    code = "import sys; from pynode.app import cli; cli.make_parser(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False"
