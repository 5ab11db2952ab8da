//! The configuration reference, printed from the schema.

use std::fmt::{self, Write};

use serde_json::{Map, Value};

use super::scalar::SCHEMA_NOT_AVAILABLE;
use super::schema::schema;

/// Markdown with one table per section: field, type, default, meaning.
pub fn reference() -> String {
    let schema = schema();
    let mut reference = Reference {
        definitions: &schema["$defs"],
        out: String::from(INTRODUCTION),
    };
    // Writing into a String cannot fail.
    let _infallible = reference.section("", &schema);
    reference.out
}

const INTRODUCTION: &str = "\
Durations are written `30s`, `500ms`, `1h30m`, `7d`; sizes `64MiB`, `10MB` or plain bytes; rates `500B/s`; shares
`20%` or a fraction from 0 to 1. Scalar values may contain `${VAR}` and `${VAR:-default}`; `$$` is a dollar sign.
Paths of files are relative to the configuration file. A change takes effect on reload, unless *restart* is said.
";

struct Reference<'s> {
    definitions: &'s Value,
    out: String,
}

impl<'s> Reference<'s> {
    /// The table of an object and the sections of the objects in it.
    fn section(&mut self, path: &str, schema: &'s Value) -> fmt::Result {
        let Some(Value::Object(properties)) = schema.get("properties") else {
            return Ok(());
        };
        if properties.is_empty() {
            return Ok(());
        }
        let title = if path.is_empty() { "The file" } else { path };
        match path {
            "" => writeln!(self.out, "\n### {title}\n")?,
            path => writeln!(self.out, "\n### `{path}`\n")?,
        }
        if let Some(description) = schema.get("description").and_then(Value::as_str) {
            writeln!(self.out, "{description}\n")?;
        }
        writeln!(
            self.out,
            "| field | type | default | meaning |\n|---|---|---|---|"
        )?;
        for (name, property) in properties {
            let required = is_required(schema, name);
            let cells = [
                self.type_of(property),
                default_of(property, required),
                self.meaning_of(property),
            ];
            writeln!(
                self.out,
                "| `{name}` | {} |",
                cells.map(|cell| cell.replace('|', "\\|")).join(" | ")
            )?;
        }
        for (name, property) in properties {
            let dot = if path.is_empty() { "" } else { "." };
            self.subsections(&format!("{path}{dot}{name}"), property)?;
        }
        Ok(())
    }

    fn subsections(&mut self, path: &str, schema: &'s Value) -> fmt::Result {
        if schema.get(SCHEMA_NOT_AVAILABLE).is_some() {
            return Ok(());
        }
        let schema = self.resolved(schema);
        if let Some(items) = schema.get("items") {
            return self.subsections(&format!("{path}[]"), items);
        }
        if let Some(values @ Value::Object(_)) = schema.get("additionalProperties") {
            return self.subsections(&format!("{path}.NAME"), values);
        }
        if let Some(choices) = choices(schema) {
            for choice in choices {
                // A choice that is a map of one key is shown by what that key holds.
                match choice.get("properties").and_then(Value::as_object) {
                    Some(properties) if choice.get("required").is_some() => {
                        for (name, property) in properties {
                            self.subsections(&format!("{path}.{name}"), property)?;
                        }
                    }
                    Some(_) => {}
                    None => self.subsections(path, choice)?,
                }
            }
            return Ok(());
        }
        self.section(path, schema)
    }

    fn resolved(&self, schema: &'s Value) -> &'s Value {
        let name = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|path| path.rsplit('/').next());
        name.and_then(|name| self.definitions.get(name)).unwrap_or(schema)
    }

    fn type_of(&self, schema: &'s Value) -> String {
        if let Some(name) = schema.get("x-type").and_then(Value::as_str) {
            return name.to_owned();
        }
        if let Some(choices) = choices(schema) {
            let types: Vec<String> = choices.iter().map(|choice| self.type_of(choice)).collect();
            return types.join(" or ");
        }
        let constants = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let constants: Vec<String> = constants.chain(schema.get("const")).map(code).collect();
        if !constants.is_empty() {
            return constants.join(" or ");
        }
        match self.resolved(schema).get("type").and_then(Value::as_str) {
            Some("array") => match schema.get("items") {
                Some(items) => format!("list of {}", self.type_of(items)),
                None => "list".to_owned(),
            },
            Some("object") => match schema.get("properties").and_then(Value::as_object) {
                Some(properties) => {
                    let keys: Vec<&str> = properties.keys().map(String::as_str).collect();
                    format!("`{{{}: ...}}`", keys.join(", "))
                }
                None => "map".to_owned(),
            },
            Some("integer") => match (schema.get("minimum"), schema.get("maximum")) {
                (Some(first), Some(last)) => format!("{first} to {last}"),
                _ => "number".to_owned(),
            },
            Some("boolean") => "true or false".to_owned(),
            Some(other) => other.to_owned(),
            None => String::new(),
        }
    }

    fn meaning_of(&self, schema: &'s Value) -> String {
        let description = |schema: &Value| {
            schema
                .get("description")
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let mut meaning = description(schema).unwrap_or_default();
        let items = schema.get("items").unwrap_or(schema);
        for choice in choices(items).into_iter().flatten() {
            if let (Some(value), Some(text)) = (choice.get("const"), description(choice)) {
                meaning.push_str(&format!(" {}: {}", code(value), uncapitalised(&text)));
            }
        }
        if schema.get("x-restart").is_some() {
            meaning.push_str(" *Restart.*");
        }
        meaning
    }
}

fn choices(schema: &Value) -> Option<&Vec<Value>> {
    schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()
}

fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema.get("required").and_then(Value::as_array);
    required.is_some_and(|names| names.iter().any(|required| required == name))
}

fn default_of(schema: &Value, required: bool) -> String {
    match schema.get("default") {
        _ if required => "required".to_owned(),
        Some(Value::Array(values)) => {
            let values: Vec<String> = values.iter().map(plain).collect();
            format!("`[{}]`", values.join(", "))
        }
        Some(value) => code(value),
        None => String::new(),
    }
}

fn code(value: &Value) -> String {
    format!("`{}`", plain(value))
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text == "*" || text.starts_with('[') => format!("\"{text}\""),
        Value::String(text) => text.clone(),
        Value::Object(map) if *map == Map::new() => "{}".to_owned(),
        other => other.to_string(),
    }
}

/// Lower-cases the first letter, unless the word is a name or an abbreviation.
fn uncapitalised(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !word.chars().skip(1).any(|c| c.is_uppercase() || c == '\'') => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_shows_sections_types_defaults_and_restarts() {
        let text = reference();
        for part in [
            "\n### `listeners[].limits`\n",
            "| `header_timeout` | duration | `10s` | Time for a whole request head. |",
            "| `workers` | `auto` or number | `auto` | Data-plane threads",
            "\n### `upstreams.NAME.health.active.http`\n",
            "\n### `cache.levels[].memory`\n",
            "| `endpoints` | list of map | required |",
            "*Restart.*",
            "| `weight` | 1 to 1000 | `1` |",
            "`round_robin`: in turn, by weight.",
            "Not available yet.",
            "\n### `routes[].cache.vary.principal`\n",
            "\n### `routes[].cache.share.tenant`\n",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        for line in text.lines().filter(|line| line.starts_with("| `")) {
            assert_eq!(line.replace("\\|", "").matches('|').count(), 5, "{line}");
        }
    }
}
