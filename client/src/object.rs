//! MCP's objects, and how the entries of a store become them.
//!
//! | kind | data | metadata keys with a meaning |
//! |---|---|---|
//! | resource | the content | `name`, `title`, `description`, `mime_type`, `annotations`, `icons` |
//! | tool schema | the JSON Schema of the tool's input | `title`, `description`, `output_schema`, `annotations`, `icons` |
//! | prompt | `{"arguments": [..], "messages": [..]}`; without messages it is listed, and made by the server | `title`, `description`, `icons` |
//! | capability | any JSON value | |
//!
//! Each key may also be written in camelCase. `ttl_ms` and `cache_scope` come back as `ttlMs` and `cacheScope`,
//! `partition` names whose a private entry is, and whatever else stands in the metadata travels under `_meta`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use erlmcp_shm_reader::{Entry, Kind, Scope};
use rmcp::model::{
    CacheScope, GetPromptResult, Prompt, ReadResourceResult, Resource, ResourceTemplate, Tool,
};
use serde_json::{Map, Value, json};

pub type Json = Map<String, Value>;
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// How long an answer may be treated as fresh where an entry does not say, in ms.
pub(crate) const DEFAULT_TTL_MS: u64 = 10_000;

/// Whatever a client may be asked for.
#[derive(Debug)]
pub enum Object {
    Resource(ReadResourceResult),
    Tool(Tool),
    Template(Template),
    Prompt(GetPromptResult),
    Capability(Value),
    Resources(Vec<Resource>),
    ResourceTemplates(Vec<ResourceTemplate>),
    Tools(Vec<Tool>),
    Prompts(Vec<Prompt>),
    /// It is there, and belongs to somebody else.
    Private,
}

impl Object {
    /// Whether it answers who asks for it alone: nothing private does, nor a prompt whose messages the server makes.
    pub fn is_answer(&self) -> bool {
        match self {
            Object::Private => false,
            Object::Template(template) => template.is_whole(),
            _ => true,
        }
    }
}

/// A prompt as it is published: its arguments still to be put in.
#[derive(Debug)]
pub struct Template {
    pub prompt: Prompt,
    messages: Option<Value>,
}

/// An entry's metadata, its known keys taken out one by one; what is left goes under `_meta`.
struct Metadata(Json);

impl Metadata {
    fn of(entry: &Entry<'_>) -> Result<Self, Error> {
        let text = entry.metadata();
        let parsed = match text.is_empty() {
            true => Json::new(),
            false => serde_json::from_slice(text)?,
        };
        Ok(Self(parsed))
    }

    /// The value of a key, by either of its spellings.
    fn take(&mut self, snake: &str, camel: &str) -> Option<Value> {
        let first = self.0.remove(snake);
        let second = match snake == camel {
            true => None,
            false => self.0.remove(camel),
        };
        first.or(second).filter(|value| !value.is_null())
    }

    /// Moves keys into an object, under their camelCase names.
    fn move_into(&mut self, object: &mut Json, keys: &[(&str, &str)]) {
        for (snake, camel) in keys {
            if let Some(value) = self.take(snake, camel) {
                object.insert((*camel).to_owned(), value);
            }
        }
    }

    fn ttl_ms(&mut self) -> u64 {
        let ttl = self.take("ttl_ms", "ttlMs");
        ttl.and_then(|ttl| ttl.as_u64()).unwrap_or(DEFAULT_TTL_MS)
    }

    /// Whether a client of this partition may have the entry.
    fn is_for(&mut self, scope: Scope, partition: &str) -> bool {
        self.take("cache_scope", "cacheScope");
        let owner = self.take("partition", "partition");
        scope == Scope::Public
            || match owner {
                Some(Value::String(owner)) => owner == partition,
                Some(Value::Array(owners)) => owners.iter().any(|owner| *owner == *partition),
                _ => false,
            }
    }

    fn finish(self, mut object: Json) -> Value {
        if !self.0.is_empty() {
            object.insert("_meta".to_owned(), Value::Object(self.0));
        }
        Value::Object(object)
    }
}

fn key(entry: &Entry<'_>) -> Result<String, Error> {
    Ok(std::str::from_utf8(entry.key())?.to_owned())
}

fn object(fields: Value) -> Json {
    match fields {
        Value::Object(object) => object,
        _ => unreachable!("made by json! as an object"),
    }
}

/// What an entry is to a client of this partition.
pub(crate) fn decode(entry: &Entry<'_>, partition: &str) -> Result<Object, Error> {
    let mut metadata = Metadata::of(entry)?;
    if !metadata.is_for(entry.scope(), partition) {
        return Ok(Object::Private);
    }
    Ok(match entry.kind() {
        Kind::Resource => Object::Resource(read(entry, metadata)?),
        Kind::ToolSchema => Object::Tool(tool(entry, metadata)?),
        Kind::Prompt => Object::Template(template(entry, metadata)?),
        Kind::Capability => Object::Capability(serde_json::from_slice(entry.data())?),
    })
}

fn read(entry: &Entry<'_>, mut metadata: Metadata) -> Result<ReadResourceResult, Error> {
    let mut content = object(json!({"uri": key(entry)?}));
    metadata.move_into(&mut content, &[("mime_type", "mimeType")]);
    let mime = content.get("mimeType").and_then(Value::as_str);
    let text = std::str::from_utf8(entry.data()).ok();
    match text.filter(|_| mime.is_none_or(is_text)) {
        Some(text) => content.insert("text".to_owned(), text.into()),
        None => content.insert(
            "blob".to_owned(),
            BASE64_STANDARD.encode(entry.data()).into(),
        ),
    };
    let ttl_ms = metadata.ttl_ms();
    // These belong to the listing.
    for key in ["name", "title", "description", "annotations", "icons"] {
        metadata.take(key, key);
    }
    let content = metadata.finish(content);
    let scope = scope(entry.scope());
    let result = json!({"contents": [content], "ttlMs": ttl_ms, "cacheScope": scope, "resultType": "complete"});
    Ok(serde_json::from_value(result)?)
}

pub(crate) fn scope(scope: Scope) -> CacheScope {
    match scope {
        Scope::Public => CacheScope::Public,
        Scope::Private => CacheScope::Private,
    }
}

/// Whether content of this type is text: text/*, and JSON and XML by whatever name.
fn is_text(mime: &str) -> bool {
    let mime = mime.split(';').next().unwrap_or(mime).trim();
    let mime = mime.to_ascii_lowercase();
    mime.starts_with("text/")
        || ["/json", "+json", "/xml", "+xml"]
            .iter()
            .any(|end| mime.ends_with(end))
}

/// How a resource is listed.
pub(crate) fn listed(entry: &Entry<'_>, partition: &str) -> Result<Option<Resource>, Error> {
    let mut metadata = Metadata::of(entry)?;
    if !metadata.is_for(entry.scope(), partition) {
        return Ok(None);
    }
    let uri = key(entry)?;
    let name = last_part(&uri);
    let mut fields = object(json!({"uri": uri, "name": name}));
    let keys = [
        ("name", "name"),
        ("title", "title"),
        ("description", "description"),
        ("mime_type", "mimeType"),
        ("annotations", "annotations"),
        ("icons", "icons"),
    ];
    metadata.move_into(&mut fields, &keys);
    metadata.ttl_ms();
    Ok(Some(serde_json::from_value(metadata.finish(fields))?))
}

/// What a resource without a name is called, here and by the node.
fn last_part(uri: &str) -> &str {
    uri.rsplit('/').find(|part| !part.is_empty()).unwrap_or(uri)
}

fn tool(entry: &Entry<'_>, mut metadata: Metadata) -> Result<Tool, Error> {
    let schema: Value = serde_json::from_slice(entry.data())?;
    let mut fields = object(json!({"name": key(entry)?, "inputSchema": schema}));
    let keys = [
        ("title", "title"),
        ("description", "description"),
        ("output_schema", "outputSchema"),
        ("annotations", "annotations"),
        ("icons", "icons"),
    ];
    metadata.move_into(&mut fields, &keys);
    metadata.ttl_ms();
    Ok(serde_json::from_value(metadata.finish(fields))?)
}

fn template(entry: &Entry<'_>, mut metadata: Metadata) -> Result<Template, Error> {
    let mut data: Json = serde_json::from_slice(entry.data())?;
    let mut fields = object(json!({"name": key(entry)?}));
    let keys = [
        ("title", "title"),
        ("description", "description"),
        ("icons", "icons"),
    ];
    metadata.move_into(&mut fields, &keys);
    metadata.ttl_ms();
    if let Some(arguments) = data.remove("arguments") {
        fields.insert("arguments".to_owned(), arguments);
    }
    Ok(Template {
        prompt: serde_json::from_value(metadata.finish(fields))?,
        messages: data.remove("messages"),
    })
}

/// A required argument that was not given.
#[derive(Debug, PartialEq, Eq)]
pub struct Missing(pub String);

impl Template {
    /// Whether its messages are published. Those of one that lacks them are the server's to make: it can be listed.
    pub fn is_whole(&self) -> bool {
        self.messages.is_some()
    }

    /// The prompt with its arguments put in: `{{name}}` in a message's text is replaced by the argument of that
    /// name, and by nothing where a declared one was not given. What an argument holds is not looked through again.
    pub fn render(&self, given: &Json) -> Result<Result<GetPromptResult, Missing>, Error> {
        let declared = self.prompt.arguments.iter().flatten();
        let mut values: Vec<(String, String)> = Vec::new();
        for argument in declared {
            let value = given.get(&argument.name);
            if value.is_none() && argument.required == Some(true) {
                return Ok(Err(Missing(argument.name.clone())));
            }
            values.push((format!("{{{{{}}}}}", argument.name), text_of(value)));
        }
        for (name, value) in given {
            let hole = format!("{{{{{name}}}}}");
            if values.iter().all(|(known, _)| *known != hole) {
                values.push((hole, text_of(Some(value))));
            }
        }
        let mut messages = self.messages.clone().unwrap_or_else(|| json!([]));
        for message in messages.as_array_mut().into_iter().flatten() {
            if let Some(Value::String(text)) = message.pointer_mut("/content/text") {
                *text = fill(text, &values);
            }
        }
        let mut result = json!({"messages": messages, "resultType": "complete"});
        if let Some(description) = &self.prompt.description {
            result["description"] = description.as_str().into();
        }
        Ok(Ok(serde_json::from_value(result)?))
    }
}

fn text_of(value: Option<&Value>) -> String {
    match value {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Replaces each hole by its value, from left to right, in one pass.
fn fill(text: &str, values: &[(String, String)]) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match values
            .iter()
            .find(|(hole, _)| rest.starts_with(hole.as_str()))
        {
            Some((hole, value)) => {
                filled.push_str(value);
                rest = &rest[hole.len()..];
            }
            None => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled.push_str(rest);
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_filled_once() {
        let values = [("{{a}}", "{{b}}"), ("{{b}}", "x")];
        let values = values.map(|(hole, value)| (hole.to_owned(), value.to_owned()));
        assert_eq!(
            fill("{{a}} {{b}} {{c}} {{{a}}} {{", &values),
            "{{b}} x {{c}} {{{b}}} {{"
        );
        assert_eq!(fill("", &values), "");
    }

    #[test]
    fn json_and_xml_are_text_by_whatever_name() {
        let texts = [
            "text/plain",
            "TEXT/html; charset=utf-8",
            "application/json",
            "image/svg+xml",
            "application/ld+json",
        ];
        assert!(texts.into_iter().all(is_text));
        assert!(
            !["image/png", "application/octet-stream", "application/jsonx"]
                .into_iter()
                .any(is_text)
        );
    }
}
