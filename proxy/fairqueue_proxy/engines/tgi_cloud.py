"""TGI's routes for cloud platforms: `/vertex` and `/invocations`.

`/invocations` takes the body of another route and tries their shapes in order: native, chat, completions. The shape is
decided here, and the fields by which TGI could read another one are dropped, so that both see the same. `/vertex`
generates for each of its instances and tells no counts at all. Pure functions.
"""

from typing import Final

from fairqueue_proxy.engines.call import Api
from fairqueue_proxy.engines.conversations import size_of_chat
from fairqueue_proxy.engines.fields import Fields, decode_object, decode_objects, is_null, output_limit
from fairqueue_proxy.engines.prompts import PromptSize, first_byte, is_list, size_of_text, sum_of

_TEXT_OF: Final = {Api.TGI_ROOT: "inputs", Api.CHAT: "messages", Api.COMPLETIONS: "prompt"}


def shape_of_invocation(fields: Fields) -> Api:
    """As which route TGI reads the body."""
    if first_byte(fields.get("inputs")) == b'"':
        api = Api.TGI_ROOT
    elif is_list(fields.get("messages")):
        api = Api.CHAT
    else:
        api = Api.COMPLETIONS
    for other, name in _TEXT_OF.items():
        if other is not api:
            fields.pop(name, None)
    return api


def size_of_instances(fields: Fields) -> PromptSize:
    """All prompts of a `/vertex` request."""
    return sum_of(_size_of_instance(instance) for instance in decode_objects(fields.get("instances")) or [])


def output_limit_of_instances(fields: Fields) -> int | None:
    """The largest of the instances' output limits; None if one of them has none."""
    limits = [_limit_of(instance) for instance in decode_objects(fields.get("instances")) or []]
    return None if None in limits else max((limit for limit in limits if limit is not None), default=None)


def _size_of_instance(instance: Fields) -> PromptSize:
    return size_of_chat(instance) if "messages" in instance else size_of_text(instance.get("inputs"))


def _limit_of(instance: Fields) -> int | None:
    if "messages" not in instance:
        return output_limit((decode_object(instance.get("parameters")) or {}).get("max_new_tokens"))
    newer = instance.get("max_completion_tokens")
    return output_limit(instance.get("max_tokens") if is_null(newer) else newer)
