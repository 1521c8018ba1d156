"""Takes keys out of a rendered document, and changes nothing else: for when a key is gone and no new document can be
rendered in its place.

What the document holds beyond the fields that this version knows stays in it, too.
"""

from collections.abc import Container
from hashlib import sha256

from msgspec import json

from .document_reader import parse_document


def revoke(content: bytes, known: Container[str]) -> bytes:
    """The document without the digests of keys that are not `known`, under a new revision.

    `content` itself if it holds none such. Raises `DocumentError` if it is no document that this version can read.
    """
    parse_document(content)
    document = json.decode(content)
    revoked = False
    for tenant in document["tenants"]:
        kept = [key for key in tenant["key_digests"] if key in known]
        revoked = revoked or len(kept) < len(tenant["key_digests"])
        tenant["key_digests"] = kept
    if not revoked:
        return content
    del document["revision"]
    document["revision"] = sha256(json.encode(document, order="sorted")).hexdigest()
    return json.encode(document, order="sorted")
