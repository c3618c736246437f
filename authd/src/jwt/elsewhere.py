"""Tokens and keys by another library than ours (PyJWT), for the tests: prints them as JSON."""

import base64
import hashlib
import hmac
import json
import sys

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

claims = json.loads(sys.argv[1])
secret = "an example of a secret that is long enough"
made = {"HS256": {"key": secret + "\n", "jwt": jwt.encode(claims, secret, algorithm="HS256")}}
made["HS256"]["jwk"] = {"kty": "oct", "k": base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")}


def confused(text):
    """As if the text were the secret. Made by hand: the library refuses to."""

    def part(value):
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    signed = part(json.dumps({"alg": "HS256", "typ": "JWT"}).encode()) + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(text.encode(), signed, hashlib.sha256).digest())).decode()


made["HS256"]["confused"] = confused("another secret, which is as long as the first one")
for name, private, algorithm in [
    ("RS256", rsa.generate_private_key(65537, 2048), jwt.algorithms.RSAAlgorithm),
    ("ES256", ec.generate_private_key(ec.SECP256R1()), jwt.algorithms.ECAlgorithm),
    ("EdDSA", ed25519.Ed25519PrivateKey.generate(), jwt.algorithms.OKPAlgorithm),
]:
    public = private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    jwk = json.loads(algorithm.to_jwk(public))
    jwk.pop("key_ops", None)
    made[name] = {"key": pem, "jwk": jwk, "jwt": jwt.encode(claims, private, algorithm=name), "confused": confused(pem)}
print(json.dumps(made))
