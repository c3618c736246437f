"""What of the example needs no socket: the ACL language, and assertions that are used."""

import json
import os
import tempfile
import unittest

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import acl
import assertion
import doorward_subsystem


class Acl(unittest.TestCase):
    def test_entries_match_as_in_doorward_itself(self):
        cases = os.environ.get("DOORWARD_ACL_CASES", os.path.join(os.path.dirname(__file__), "../../proto/src/acl/cases.json"))
        with open(cases, encoding="utf-8") as file:
            cases = json.load(file)
        self.assertGreater(len(cases), 30)
        for pattern, subject, expected in cases:
            with self.subTest(pattern=pattern, subject=subject):
                self.assertEqual(acl.matches(pattern, subject, "123", "s-1"), expected)

    def test_a_denial_beats_every_grant(self):
        self.assertTrue(acl.granted(["a", "#"], "x.y"))
        self.assertFalse(acl.granted(["#", "!x.*"], "x.y"))
        self.assertFalse(acl.granted(["!#", "x.y"], "x.y"))
        self.assertFalse(acl.granted([], "x.y"))

    def test_a_holders_id_is_text(self):
        for auth_id, subject, expected in [
            (".*", "a.b", False), (".*", "a..*", True), ("#", "a.b", False), ("#", "a.#", True), ("", "a.", False),
            ("", "a.me", True), ("1.2", "a.1.2", True),
        ]:
            self.assertEqual(acl.matches("a.me", subject, auth_id), expected, (auth_id, subject))


class Callers(unittest.TestCase):
    def test_users_of_the_host_are_believed_and_nobody_else(self):
        key = Ed25519PrivateKey.generate()
        claims = {
            "iss": "doorward-authd", "aud": "example/notes", "sub": "alice", "uid": 1000, "auth_id": "1000",
            "access": "limited", "acl": [], "sid": "s", "method": "password", "iat": 1_000, "exp": 1_060, "jti": "a",
        }
        with tempfile.NamedTemporaryFile() as file:
            file.write(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
            file.flush()
            verifier = assertion.Verifier(file.name, os.geteuid(), "example/notes")

            def caller(**changed):
                return verifier.user(jwt.encode({**claims, **changed}, key, algorithm="EdDSA"), 1_010)

            self.assertEqual(caller().uid, 1000)
            self.assertEqual(caller(kind="user").user, "alice")
            other = {"sub": "terminal/t-7", "auth_id": "t-7", "kind": "terminal", "pk": "7", "name": "root"}
            with self.assertRaises(assertion.NoUser):
                caller(**other, uid=None)
            believed = verifier.caller(jwt.encode({**claims, **other, "uid": None}, key, algorithm="EdDSA"), 1_010)
            self.assertEqual((believed.kind, believed.pk, believed.uid), ("terminal", "7", None))
            for wrong in (
                {**other, "uid": 0}, {**other, "uid": None, "pk": None}, {**other, "uid": None, "sub": "terminal/t-8"},
                {**other, "uid": None, "kind": "door"}, {"kind": "user", "pk": "7"},
                {"uid": None}, {"uid": -1}, {"uid": True}, {"sub": "terminal/t-7"}, {"aud": "example/x"}):
                with self.assertRaises(assertion.NotBelieved):
                    caller(**wrong)


class Named:
    def __init__(self, jti, user, issued):
        self.jti, self.user, self.issued, self.expires = jti, user, issued, issued + 60


class Used(unittest.TestCase):
    def test_one_is_good_once_also_when_the_clock_steps_back(self):
        used = assertion.Used(started=999)
        used.take(Named("a", "u", 1_000), 1_000)
        used.take(Named("b", "u", 1_100), 1_100)
        for now in (1_000, 1_010, 1_100):
            with self.assertRaises(assertion.NotBelieved):
                used.take(Named("a", "u", 1_000), now)
        for issued in (998, 999):
            with self.assertRaises(assertion.NotBelieved):
                used.take(Named("c", "u", issued), 1_100)

    def test_the_table_has_a_bound(self):
        used = assertion.Used(started=-1)
        for number in range(assertion.USED_MAX):
            used.take(Named(str(number), f"u{number % 5}", 0), 0)
        with self.assertRaises(assertion.Full):
            used.take(Named("more", "v", 0), 0)
        for number in range(2_000):
            used.take(Named(f"later{number}", f"u{number % 5}", 60), 60)
        self.assertLessEqual(len(used.entries), assertion.USED_MAX)


class Seats(unittest.TestCase):
    def test_one_user_leaves_places_for_others_and_all_come_back(self):
        seats, taken = doorward_subsystem.Seats(), []
        for user in ["u"] * 100 + [f"v{number}" for number in range(100)]:
            try:
                seats.take(user)
                taken.append(user)
            except doorward_subsystem.Failure as failure:
                self.assertEqual(failure.code, 429)
        self.assertEqual((taken.count("u"), len(taken)), (8, 32))
        for user in taken:
            seats.release(user)
        self.assertEqual((seats.all, seats.of_user), (0, {}))


if __name__ == "__main__":
    unittest.main()
