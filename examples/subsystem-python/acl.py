"""The ACL language of doorward: whether a caller's entries grant a subject.

The same as proto/src/acl/ of doorward's tree, which is tested against the same cases (proto/src/acl/cases.json). Nothing
here builds a regular expression: a holder's id is text, whatever is in it.
"""


def granted(entries, subject, auth_id="", session=""):
    """Whether one entry allows `subject` and none denies it."""
    allowed = False
    for entry in entries:
        if entry.startswith("!"):
            if matches(entry[1:], subject, auth_id, session):
                return False
        elif not allowed:
            allowed = matches(entry, subject, auth_id, session)
    return allowed


def matches(pattern, subject, auth_id="", session=""):
    """Whether a pattern (without a leading `!`) matches the whole subject.

    Follows all places of the subject that the pattern can have reached, so it takes len(pattern) * len(subject) steps
    at most, whatever somebody wrote.
    """
    if "\n" in subject:
        return False
    if pattern == "#":
        return True
    if subject == "":
        return False
    places = {0}
    for number, word in enumerate(pattern.split(".")):
        if number > 0:
            places = _over(places, subject, ["."])
        if word == "me":
            places = _over(places, subject, ["me", auth_id])
        elif word == "my_session":
            places = _over(places, subject, ["my_session", session])
        elif word and set(word) == {"*"}:
            # A word of its own needs a character.
            places = _run(places, subject, _in_word, none=False)
        else:
            for symbol in word:
                if symbol == "*":
                    places = _run(places, subject, _in_word, none=True)
                elif symbol == "#":
                    places = _run(places, subject, lambda _: True, none=False)
                else:
                    places = _over(places, subject, [symbol])
        if not places:
            return False
    return len(subject) in places


def _in_word(character):
    return character not in ".#"


def _over(places, subject, texts):
    """The places behind one of the texts."""
    return {
        place + len(text) for place in places for text in texts if text and subject.startswith(text, place)
    }


def _run(places, subject, kind, none):
    """The places behind one or more characters of a kind; with `none` behind no character, too."""
    reached = set(places) if none else set()
    for place in range(len(subject)):
        if (place in places or place in reached) and kind(subject[place]):
            reached.add(place + 1)
    return reached
