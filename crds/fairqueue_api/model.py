"""What all models of the resource have in common."""

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Names are camelCase in the file; types are taken as written (no "8080" for 8080); unknown fields are errors."""

    # Schemas are built on first use: a proxy that reads a rendered document never pays for them.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, hide_input_in_errors=True, defer_build=True
    )

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, value: object) -> object:
        # As the API server does: a known field without a value (`limits:`) takes its default.
        if not isinstance(value, dict):
            return value
        known = {field.alias for field in cls.model_fields.values()}
        return {name: item for name, item in value.items() if item is not None or name not in known}
