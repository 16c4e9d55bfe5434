"""What `memfix schema` prints tells of each field what it holds."""

from collections.abc import Iterator
from typing import Any, get_args

import jsonschema
import pytest
from pydantic import BaseModel, Field

from memfix.report.schema import Report
from memfix.report.sections import SECTIONS, AttackRow, BroughtBack
from memfix.run.header import Header


def models_in(annotation: Any) -> set[type[BaseModel]]:
    """Models that a type is, or is made of: itself, its union's members, what its lists and dictionaries hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for part in get_args(annotation) for model in models_in(part)}


def parts(annotation: Any) -> set[Any]:
    """A type and all that it is made of."""
    return {annotation, *(part for inner in get_args(annotation) for part in parts(inner))}


def reached(model: type[BaseModel], known: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A model and all that are nested in it, at any depth."""
    if model not in known:
        known.add(model)
        for field in model.model_fields.values():
            for nested in models_in(field.annotation):
                reached(nested, known)
    return known


def undescribed(model: type[BaseModel]) -> list[str]:
    """Fields of a model and of those in it of which nothing is told."""
    return sorted(
        f"{nested.__name__}.{name}"
        for nested in reached(model, set())
        for name, field in nested.model_fields.items()
        if not (field.description or "").strip()
    )


def properties(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a JSON schema and of its definitions, by the title of what it belongs to."""
    for owner in (schema, *schema.get("$defs", {}).values()):
        for name, told in owner.get("properties", {}).items():
            yield f"{owner['title']}.{name}", told


def test_a_field_without_description_is_found_at_any_depth() -> None:
    class Inner(BaseModel):
        told: int = Field(description="a number")
        silent: int = Field(0, description=" ")

    class Outer(BaseModel):
        inner: dict[str, list[Inner | None]] = Field(description="the inner ones")

    assert undescribed(Outer) == ["Inner.silent"]


@pytest.mark.parametrize(("model", "least"), [(Header, 15), (Report, 30)])
def test_every_field_is_described(model: type[BaseModel], least: int) -> None:
    assert len(reached(model, set())) >= least  # the walk goes into what is nested
    assert undescribed(model) == []


def test_every_field_of_a_section_is_described() -> None:
    assert reached(SECTIONS["attacks"].told, set()) >= {AttackRow, BroughtBack}
    assert {name: found for name, section in SECTIONS.items() if (found := undescribed(section.told))} == {}


def test_a_report_holds_typed_records_but_for_sections() -> None:
    """A section is a row of a table, so that the report cannot name them all."""
    loose = [
        f"{model.__name__}.{name}"
        for model in reached(Report, set())
        for name, field in model.model_fields.items()
        if Any in parts(field.annotation)
    ]
    assert loose == ["Report.sections"]


def test_sections_are_in_the_schema_with_their_fields() -> None:
    schema = Report.model_json_schema(by_alias=True) | {"required": []}
    assert schema["properties"]["sections"]["properties"].keys() == SECTIONS.keys()
    got: dict[str, Any] = {"came": 1, "tried": 2, "earliest": 8, "unit": "samples"}
    row = {"attack": "half", **{name: got for name in AttackRow.model_fields if name != "attack"}}
    section = {"rows": [row], "left_out": [], "controls": 1}
    jsonschema.validate({"sections": {"attacks": section}}, schema)
    row["after_target"] = got | {"came": "none"}
    with pytest.raises(jsonschema.ValidationError, match="'none' is not of type 'integer'"):
        jsonschema.validate({"sections": {"attacks": section}}, schema)


@pytest.mark.parametrize("model", [Header, Report])
def test_the_schema_that_is_printed_has_the_descriptions(model: type[BaseModel]) -> None:
    told = dict(properties(model.model_json_schema(by_alias=True)))
    assert len(told) > 50
    assert [name for name, field in told.items() if not field.get("description")] == []
