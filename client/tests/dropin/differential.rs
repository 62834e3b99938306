//! The same requests through a plain client and through shared memory, while things come and go in both places.

use super::*;
use crate::mirror::{Json, LIST_TTL, Thing, Things};
use erlmcp_shm_reader::Kind;
use erlmcp_shm_writer::{Attributes, Scope};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// How a thing that the server has stands in the store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Published {
    Same,
    Not,
    /// Something else stands there, which nobody may be told.
    Private,
    Expired,
    Broken,
}

#[derive(Clone, Debug)]
enum Op {
    Put(Kind, u8, u8, Published),
    Delete(Kind, u8),
    Claim(Kind, bool),
    Read(u8),
    Get(u8, u8),
    List(Kind, bool),
    Templates,
    Call(u8),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Resource),
        Just(Kind::ToolSchema),
        Just(Kind::Prompt)
    ]
}

fn op() -> impl Strategy<Value = Op> {
    use Published::*;
    let published = prop_oneof![
        6 => Just(Same), 1 => Just(Not), 1 => Just(Private), 1 => Just(Expired), 1 => Just(Broken),
    ];
    prop_oneof![
        6 => (kind(), 0..3_u8, any::<u8>(), published).prop_map(|(k, key, seed, p)| Op::Put(k, key, seed, p)),
        1 => (kind(), 0..3_u8).prop_map(|(kind, key)| Op::Delete(kind, key)),
        2 => (kind(), prop::bool::weighted(0.8)).prop_map(|(kind, on)| Op::Claim(kind, on)),
        5 => (0..4_u8).prop_map(Op::Read),
        5 => (0..4_u8, any::<u8>()).prop_map(|(key, arguments)| Op::Get(key, arguments)),
        5 => (kind(), prop::bool::weighted(0.1)).prop_map(|(kind, cursor)| Op::List(kind, cursor)),
        1 => Just(Op::Templates),
        1 => any::<u8>().prop_map(Op::Call),
    ]
}

fn key(kind: Kind, n: u8) -> String {
    match kind {
        Kind::Resource => format!("file:///{n}"),
        _ => format!("n{n}"),
    }
}

/// A thing, different for each seed.
fn thing(kind: Kind, n: u8, seed: u8) -> Thing {
    let bit = |at: u8| seed >> at & 1 == 1;
    let mut fields = Json::new();
    let mut meta = Json::new();
    let mut text = true;
    if bit(0) {
        fields.insert("title".into(), format!("Title {seed}").into());
        fields.insert(
            "icons".into(),
            json!([{"src": "https://example.org/i.png"}]),
        );
    }
    if bit(1) {
        fields.insert("description".into(), format!("says {seed}").into());
    }
    if bit(2) {
        meta.insert("vendor/key".into(), json!([seed, {"x": null}]));
    }
    let data = match kind {
        Kind::Resource => {
            let (mime, is_text, data) = match seed >> 4 & 7 {
                0 => (Some("text/plain; charset=utf-8"), true, "h\u{e9}llo".into()),
                1 => (Some("application/ld+json"), true, "{\"a\": 1}".into()),
                2 => (Some("image/png"), false, b"looks like text".to_vec()),
                3 => (Some("text/plain"), false, b"\xff\x00".to_vec()),
                4 => (None, false, b"\xfe".to_vec()),
                5 => (None, true, vec![]),
                6 => (Some("image/svg+xml"), true, "<svg/>".into()),
                _ => (None, true, format!("of no type, {seed}").into_bytes()),
            };
            text = is_text;
            if let Some(mime) = mime {
                fields.insert("mimeType".into(), mime.into());
            }
            if bit(3) {
                fields.insert("name".into(), format!("name {seed}").into());
                fields.insert("annotations".into(), json!({"priority": 0.5}));
            }
            data
        }
        Kind::ToolSchema => {
            if bit(4) {
                let root = if bit(5) { "array" } else { "object" };
                fields.insert("outputSchema".into(), json!({ "type": root }));
            }
            if bit(6) {
                fields.insert("annotations".into(), json!({"readOnlyHint": bit(7)}));
            }
            let schema = json!({"type": "object", "properties": {"a": {"const": seed}}});
            schema.to_string().into_bytes()
        }
        _ => {
            let arguments =
                json!([{"name": "who", "required": bit(4)}, {"name": "how", "description": "d"}]);
            let said = format!("{seed}: {{{{who}}}}{{{{how}}}} {{{{other}}}} \"{{{{");
            let image = json!({"role": "assistant", "content": {"type": "image", "data": "AA==", "mimeType": "image/png"}});
            let mut messages =
                vec![json!({"role": "user", "content": {"type": "text", "text": said}})];
            messages.extend(bit(5).then_some(image));
            let prompt = json!({"arguments": arguments, "messages": messages});
            prompt.to_string().into_bytes()
        }
    };
    Thing {
        kind,
        key: key(kind, n),
        data,
        text,
        fields,
        meta,
        ttl_ms: bit(7).then_some(u64::from(seed)),
    }
}

/// Server and store, and what is known of them.
#[derive(Default)]
struct Model {
    things: Things,
    published: BTreeMap<(Kind, String), Published>,
    claims: BTreeMap<Kind, bool>,
}

impl Model {
    fn put(&mut self, writer: &Writer, thing: Thing, seed: u8, published: Published) {
        let place = (thing.kind, thing.key.clone());
        self.published.insert(place.clone(), published);
        let mut other = self::thing(thing.kind, 0, !seed);
        other.key.clone_from(&thing.key);
        let private = Attributes {
            scope: Scope::Private,
            ..Attributes::default()
        };
        let expired = Attributes {
            expires_at: 1,
            ..Attributes::default()
        };
        match published {
            Published::Same => thing.put(writer, Attributes::default()),
            Published::Not => {
                writer.delete(place.0, place.1.as_bytes()).unwrap();
            }
            Published::Private => other.put(writer, private),
            Published::Expired => other.put(writer, expired),
            Published::Broken => {
                let put = writer.put(place.0, place.1.as_bytes(), &other.data, b"no JSON");
                put.unwrap();
            }
        }
        self.things.lock().unwrap().insert(place, thing);
    }

    fn delete(&mut self, writer: &Writer, kind: Kind, key: String) {
        writer.delete(kind, key.as_bytes()).unwrap();
        self.published.remove(&(kind, key.clone()));
        self.things.lock().unwrap().remove(&(kind, key));
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = Published> {
        let of = self.published.iter();
        of.filter(move |(place, _)| place.0 == kind)
            .map(|(_, published)| *published)
    }

    /// Claims what is wanted, as far as it is true.
    fn claim(&self, writer: &Writer) {
        for (kind, name) in KINDS {
            let wanted = self.claims.get(&kind) == Some(&true);
            let metadata = match wanted && self.of(kind).all(|p| p != Published::Not) {
                true => json!({"complete": true, "ttl_ms": LIST_TTL}),
                false => json!({"complete": false}),
            };
            let metadata = metadata.to_string();
            let put = writer.put(
                Kind::Capability,
                name.as_bytes(),
                b"{}",
                metadata.as_bytes(),
            );
            put.unwrap();
        }
    }

    /// Whether the server is spared this request.
    fn spared(&self, op: &Op) -> bool {
        let same = |kind, n| self.published.get(&(kind, key(kind, n))) == Some(&Published::Same);
        match op {
            Op::Read(n) => same(Kind::Resource, *n),
            Op::Get(n, given) => {
                let things = self.things.lock().unwrap();
                let thing = things.get(&(Kind::Prompt, key(Kind::Prompt, *n)));
                let given = arguments(*given).unwrap_or_default();
                same(Kind::Prompt, *n)
                    && thing
                        .is_some_and(|t| t.required().iter().all(|name| given.contains_key(name)))
            }
            Op::List(kind, cursor) => {
                let claimed = self.claims.get(kind) == Some(&true);
                claimed && !cursor && self.of(*kind).all(|p| p == Published::Same)
            }
            _ => false,
        }
    }
}

const KINDS: [(Kind, &str); 3] = [
    (Kind::Resource, "resources"),
    (Kind::ToolSchema, "tools"),
    (Kind::Prompt, "prompts"),
];

fn arguments(seed: u8) -> Option<JsonObject> {
    let names = ["who", "how", "other"].into_iter().enumerate();
    let given = names.filter(|(at, _)| seed >> at & 1 == 1);
    let given = given.map(|(_, name)| (name.to_owned(), format!("<{name}>").into()));
    let given: JsonObject = given.collect();
    (seed & 8 == 0).then_some(given)
}

fn request(op: &Op) -> Option<ClientRequest> {
    Some(match op {
        Op::Read(n) => read(&key(Kind::Resource, *n)),
        Op::Get(n, given) => get(&key(Kind::Prompt, *n), arguments(*given)),
        Op::List(kind, cursor) => {
            let cursor = cursor.then(|| "2".to_owned());
            match kind {
                Kind::Resource => list!(ListResourcesRequest, cursor),
                Kind::ToolSchema => list!(ListToolsRequest, cursor),
                _ => list!(ListPromptsRequest, cursor),
            }
        }
        Op::Templates => list!(ListResourceTemplatesRequest, None),
        Op::Call(seed) => {
            let params = CallToolRequestParams::new("any").with_arguments(arguments(*seed)?);
            CallToolRequest::new(params).into()
        }
        _ => return None,
    })
}

/// Requests made, and requests that the server was spared.
async fn run(ops: &[Op], stateless: bool) -> (u64, u64) {
    let store = Store::new();
    let mut model = Model::default();
    let (plain, fronted) = (
        Mirror::new(&model.things, stateless),
        Mirror::new(&model.things, stateless),
    );
    let without = connect(&plain, None, LONG, ()).await;
    let with = connect(&fronted, Some(store.reader()), LONG, ()).await;
    let (mut asked, mut spared) = (0, 0);
    for op in ops {
        match op {
            Op::Put(kind, n, seed, published) => {
                model.put(&store.writer, thing(*kind, *n, *seed), *seed, *published);
            }
            Op::Delete(kind, n) => model.delete(&store.writer, *kind, key(*kind, *n)),
            Op::Claim(kind, on) => drop(model.claims.insert(*kind, *on)),
            _ => {}
        }
        let Some(request) = request(op) else {
            model.claim(&store.writer);
            continue;
        };
        asked += 1;
        spared += u64::from(model.spared(op));
        let expected = ask(&without, request.clone()).await;
        assert_eq!(ask(&with, request).await, expected, "{op:?}");
        let counted = (
            plain.asked.load(Ordering::SeqCst),
            fronted.asked.load(Ordering::SeqCst),
        );
        assert_eq!(counted, (asked, asked - spared), "{op:?}");
    }
    (asked, spared)
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(property::config(64, "tests/dropin.proptest-regressions"))]

    #[test]
    fn answers_are_the_same_with_and_without_it(ops in prop::collection::vec(op(), 1..60)) {
        for stateless in [true, false] {
            runtime().block_on(run(&ops, stateless));
        }
    }
}

/// That the property is not one of requests that all pass by.
#[test]
fn most_requests_are_spared_where_most_is_published() {
    let mut ops = vec![];
    for (kind, _) in KINDS {
        ops.push(Op::Claim(kind, true));
        ops.extend((0..3).map(|n| Op::Put(kind, n, 37 * n, Published::Same)));
        ops.extend([Op::List(kind, false), Op::List(kind, true)]);
    }
    ops.extend((0..4).flat_map(|n| [Op::Read(n), Op::Get(n, 7)]));
    for stateless in [true, false] {
        // Three lists of six, and the three of each four that there are.
        assert_eq!(runtime().block_on(run(&ops, stateless)), (14, 9));
    }
}

#[tokio::test]
async fn what_an_answer_costs_beside_the_servers() {
    println!("median of 300 requests, in us        server  shared memory");
    for stateless in [true, false] {
        let store = Store::new();
        let mut model = Model::default();
        for (kind, _) in KINDS {
            model.claims.insert(kind, true);
            for n in 0..32 {
                let seed = 8 * n + 7;
                let thing = thing(kind, n, seed);
                model.put(&store.writer, thing, seed, Published::Same);
            }
        }
        model.claim(&store.writer);
        let server = Mirror::new(&model.things, stateless);
        let without = connect(&server, None, LONG, ()).await;
        let with = connect(&server, Some(store.reader()), LONG, ()).await;
        for (name, op) in [
            ("resources/read", Op::Read(0)),
            ("prompts/get", Op::Get(0, 7)),
            ("tools/list of 32", Op::List(Kind::ToolSchema, false)),
            ("resources/list of 32", Op::List(Kind::Resource, false)),
        ] {
            let request = request(&op).unwrap();
            let far = median(&without, request.clone(), 300).await;
            let before = server.asked.load(Ordering::SeqCst);
            let near = median(&with, request, 300).await;
            assert_eq!(server.asked.load(Ordering::SeqCst), before, "{name}");
            let revision = if stateless {
                "2026-07-28"
            } else {
                "2025-11-25"
            };
            let (far, near) = (far.as_nanos() as f64 / 1e3, near.as_nanos() as f64 / 1e3);
            println!("{revision}  {name:<24} {far:>8.1}  {near:>13.1}");
        }
    }
}
