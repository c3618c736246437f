"""What of the example needs no socket: who is known, and who is not."""

import json
import os
import tempfile
import unittest

import authenticator_pb2 as pb
import terminals


class Authenticate(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.register = terminals.Register(os.path.join(self.directory.name, "terminals.json"))
        self.token = self.register.add("7", "3")

    def ask(self, credentials):
        text = credentials if isinstance(credentials, bytes) else json.dumps(credentials).encode()
        return terminals.authenticate(self.register, pb.AuthenticateRequest(kind="terminal", credentials=text))

    def test_a_terminal_is_known_by_its_token_and_by_nothing_else(self):
        identity = self.ask({"token": self.token}).identity
        self.assertEqual((identity.pk, identity.uuid, identity.only_one), ("7", "terminal-7", True))
        self.assertEqual(list(identity.acl), ["ws.group.3.subscribe", "ws.terminal.7.action.status"])
        self.assertEqual(self.ask({"username": "terminal-7", "password": self.token}).identity.pk, "7")
        for wrong in (
            {}, [], None, 7, {"token": ""}, {"token": None}, {"token": self.token + "x"}, {"token": "x" * 129},
            {"username": "terminal-8", "password": self.token}, b"", b"{", b"\xff", b"[" * 8000,
        ):
            self.assertTrue(self.ask(wrong).HasField("refused"), wrong)

    def test_the_token_is_kept_as_a_hash_and_one_that_is_taken_out_logs_in_no_more(self):
        with open(self.register.path, encoding="utf-8") as file:
            self.assertNotIn(self.token, file.read())
        self.register.add("8", "3")
        self.assertTrue(self.ask({"token": self.token}).HasField("identity"))
        with open(self.register.path, "w", encoding="utf-8") as file:
            file.write("{}")
        self.assertTrue(self.ask({"token": self.token}).HasField("refused"))

    def test_a_register_that_others_can_read_or_that_is_broken_is_a_fault_and_no_refusal(self):
        os.chmod(self.register.path, 0o644)
        with self.assertRaises(ValueError):
            self.ask({"token": self.token})
        os.chmod(self.register.path, 0o600)
        with open(self.register.path, "w", encoding="utf-8") as file:
            file.write("{")
        with self.assertRaises(ValueError):
            self.ask({"token": self.token})

    def test_names_that_would_be_more_than_a_word_of_an_entry_are_refused(self):
        for terminal, group in (("7.8", "3"), ("7", "*"), ("7", "#"), ("", "3"), ("7", "3\n")):
            with self.assertRaises(ValueError):
                self.register.add(terminal, group)


if __name__ == "__main__":
    unittest.main()
