"""Setup on a terminal: it asks what is not answered yet, and what is wrong is asked again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gatewayd.cli.setup.questions import (
    BY_KEY,
    KEPT,
    Answers,
    MachineFacts,
    Question,
    asked,
    is_number,
    next_question,
    settled,
)

PROBED = ("endpoint", "ca_file", "product")
"""What is asked again where the cloud cannot be used so."""

YES_OR_NO = {"": True, "y": True, "yes": True, "n": False, "no": False}

Probe = Callable[[Answers], Iterable[tuple[bool, str]]]
"""Tries the cloud by the answers so far; yields whether each step is good, and a line about it."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The two ends of a terminal.

    ask: shows a prompt and returns a line.  ask_secret: the same, without an echo.
    say: shows a line.  probe: see `Probe`.
    """

    ask: Callable[[str], str]
    ask_secret: Callable[[str], str]
    say: Callable[[str], object]
    probe: Probe
    machine: MachineFacts

    def answers(self, before: Answers) -> dict[str, str]:
        """Return complete answers; only what is not answered before is asked."""
        answers = {key: before[key] for key in before if key in BY_KEY}
        while (question := next_question(answers)) is not None:
            answers[question.key] = self._answer(question, answers)
            if question.probes(answers) and not self._is_good(answers):
                void = (*PROBED, question.key)
                answers = {key: one for key, one in answers.items() if key not in void}
        return {question.key: answers[question.key] for question in asked(answers)}

    def changed(self, before: Answers) -> dict[str, str]:
        """Show answers that were given before, and ask for another one to one of them.

        A new answer that says where the cloud is is tried at once.
        """
        present = [question for question in asked(before) if question.key in before]
        for number, question in enumerate(present, 1):
            answer = before[question.key]
            shown = "(sealed)" if answer == KEPT else answer or "-"
            self.say(f"{number:>3}  {question.key:<10} {shown}")
        by_word = {str(number): one for number, one in enumerate(present, 1)}
        by_word |= {one.key: one for one in present}
        while (
            text := self.ask("Which is to change, or empty for nothing: ").strip()
        ) not in by_word:
            if not text:
                return dict(before)
            self.say(f"A number from 1 to {len(present)}, or a name, please.")
        question = by_word[text]
        answer = self._answer(question, before)
        given = {**settled(before, {question.key: answer}), question.key: answer}
        probes = question.key in PROBED or question.probes(given)
        if probes and not self._is_good(given):
            # the sealed secret is that of the product, which may be another one now
            given = {key: one for key, one in given.items() if key not in (*PROBED, "secret")}
        return self.answers(given)

    def agrees(self, text: str) -> bool:
        """Ask a question that has yes for its default."""
        while (answer := self.ask(f"{text} [Y/n] ").strip().lower()) not in YES_OR_NO:
            self.say("y or n, please.")
        return YES_OR_NO[answer]

    def _answer(self, question: Question, answers: Answers) -> str:
        self.say("")
        self.say(question.text)
        self.say(f"  {question.help}")
        choices = question.choices or self._choices(question)
        for number, choice in enumerate(choices, 1):
            uplink = "  (uplink)" if choice in self.machine.uplinks else ""
            self.say(f"  {number}  {choice}{uplink}")
        default = question.default_on(self.machine)
        prompt = f"[{default}] " if default else "> "
        while True:
            text = (self.ask_secret if question.secret else self.ask)(prompt).strip()
            answer = text or default
            if choices and is_number(text) and 0 < int(text[:3]) <= len(choices):
                answer = choices[int(text) - 1]
            if not (fault := question.fault(answer, answers, self.machine)):
                return answer
            self.say(f"  This {fault}.")

    def _choices(self, question: Question) -> tuple[str, ...]:
        return tuple(self.machine.interfaces) if question.key == "interface" else ()

    def _is_good(self, answers: Answers) -> bool:
        """Try the cloud, and show how; return whether the answers stay."""
        good = True
        for passed, line in self.probe(answers):
            good &= passed
            self.say(f"  {line}")
        return good or not self.agrees("Answer these questions again?")
