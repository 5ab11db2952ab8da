//! The JSON Schema of the YAML, made from the raw types.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::raw::File;
use super::scalar::SCHEMA_NOT_AVAILABLE;

/// JSON Schema (draft 2020-12) of the configuration file. Beyond the standard: `x-type` names the type of a
/// scalar, `x-restart` marks what takes effect only after a restart, `x-not-available-yet` what is refused for now.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    tidy(&mut schema);
    if let Value::Object(schema) = &mut schema {
        schema.insert("title".to_owned(), json!("Outrigger configuration"));
    }
    schema
}

fn tidy(schema: &mut Value) {
    match schema {
        Value::Array(schemas) => schemas.iter_mut().for_each(tidy),
        Value::Object(schema) => {
            schema.values_mut().for_each(tidy);
            forbid_null(schema);
            collect_required(schema);
            describe(schema);
        }
        _ => {}
    }
}

/// A key without a value is refused, although every field is optional.
fn forbid_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| *choice != json!({"type": "null"}));
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        schema.remove("anyOf");
        for (key, value) in only {
            schema.entry(key).or_insert(value);
        }
    }
}

/// Moves the marks of required fields to where the standard has them.
fn collect_required(schema: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    let mut required = Vec::new();
    for (name, property) in properties {
        let mark = property
            .as_object_mut()
            .and_then(|property| property.remove("x-required"));
        if mark.is_some() {
            required.push(Value::from(name.as_str()));
        }
    }
    if !required.is_empty() {
        schema.insert("required".to_owned(), required.into());
    }
}

/// Unwraps the lines of comments and says what is not available.
fn describe(schema: &mut Map<String, Value>) {
    let unavailable = schema.contains_key(SCHEMA_NOT_AVAILABLE);
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
        if unavailable && !description.starts_with(UNAVAILABLE) {
            description.insert_str(0, UNAVAILABLE);
        }
    }
}

const UNAVAILABLE: &str = "Not available yet. ";

#[cfg(test)]
mod tests {
    use super::*;

    fn visit(schema: &Value, check: &mut dyn FnMut(&Map<String, Value>)) {
        match schema {
            Value::Array(schemas) => schemas.iter().for_each(|schema| visit(schema, check)),
            Value::Object(object) => {
                check(object);
                object.values().for_each(|schema| visit(schema, check));
            }
            _ => {}
        }
    }

    #[test]
    fn every_field_is_described_and_no_object_is_open() {
        let schema = schema();
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        let mut fields = 0;
        visit(&schema, &mut |object| {
            let Some(Value::Object(properties)) = object.get("properties") else {
                return;
            };
            assert_eq!(
                object.get("additionalProperties"),
                Some(&json!(false)),
                "{object:?}"
            );
            for (name, property) in properties {
                fields += 1;
                // A choice is described by its variants.
                let described = property.get("description").is_some() || object.contains_key("required");
                assert!(described, "`{name}` has no description");
            }
        });
        assert!(fields > 150, "only {fields} fields");
    }

    #[test]
    fn nothing_may_be_null_and_what_is_missing_is_marked() {
        let schema = schema();
        let text = schema.to_string();
        assert!(!text.contains("\"null\"") && !text.contains("x-required"));
        assert_eq!(schema["required"], json!(["listeners", "upstreams", "routes"]));
        let hedge = &schema["$defs"]["Upstream"]["properties"]["hedge"];
        assert_eq!(hedge[SCHEMA_NOT_AVAILABLE], true);
        assert!(hedge["description"].as_str().unwrap().starts_with(UNAVAILABLE));
        assert_eq!(hedge["$ref"], "#/$defs/Hedge");
    }
}
