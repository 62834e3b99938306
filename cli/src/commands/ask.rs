//! Everything that asks the whole client: shared memory and the server behind it, as `--config` describes them.

use crate::globals::Globals;
use crate::output::{Answer, Failure, Output, explained, say, shown};
use clap::Args;
use erlmcp_shm_client::{ClientError, Config, HybridClient, Passed, Tier, UpstreamError};
use erlmcp_shm_reader::Verdict;
use serde::Serialize;
use serde_json::Value;
use std::future::Future;
use std::path::Path;

/// The configuration. The store that the command line names, and whom it trusts, are so here too.
fn load(globals: &Globals) -> Result<Config, Failure> {
    let config = Config::load(globals.config()?);
    let mut config = config.map_err(|error| Failure::Client(error.to_string()))?;
    // Why a child process ended is said in a line of ours.
    for transport in &mut config.transports {
        transport.quiet = true;
    }
    match &mut config.l2 {
        Some(l2) => {
            l2.trust_owner = globals.trust_owner.or(l2.trust_owner);
            if globals.path_is_said {
                l2.path.clone_from(&globals.path);
            }
        }
        None if globals.path_is_said || globals.trust_owner.is_some() => {
            return Err(Failure::Client(format!(
                "{}: shared memory is switched off there: leave --path and --trust-owner away",
                shown(globals.config()?)
            )));
        }
        None => {}
    }
    Ok(config)
}

/// Has a client do something.
fn with_client<T>(
    globals: &Globals,
    ask: impl AsyncFnOnce(HybridClient) -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let config = load(globals)?;
    run(async {
        let client = HybridClient::from_config(&config).map_err(failed)?;
        let answer = ask(client.clone()).await;
        client.close().await;
        answer.map_err(failed)
    })
}

/// Runs a future to its end on a runtime of its own.
pub fn run<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Client(format!("no runtime: {error}")))?;
    runtime.block_on(future)
}

fn failed(error: ClientError) -> Failure {
    match error {
        ClientError::NotFound { .. } => Failure::Absent(error.to_string()),
        ClientError::Upstream(UpstreamError::Refused(_)) => Failure::Absent(error.to_string()),
        error => Failure::Client(error.to_string()),
    }
}

/// Says on stderr which tier answered, and what was passed over.
fn say_tier(tier: Tier, passed: Option<&Passed>) {
    let tier = match tier {
        Tier::L1 => "this process",
        Tier::L2 => "shared memory",
        Tier::L3 => "the server",
    };
    match passed {
        None => say(format_args!("from {tier}")),
        Some(Passed::Silent) => say(format_args!(
            "from {tier}: the writer of shared memory is silent"
        )),
        Some(passed) => say(format_args!("from {tier}: {passed:?}")),
    }
}

fn print(value: &impl Serialize) -> Result<Answer, Failure> {
    let mut out = Output::new();
    out.json(value)?;
    out.flush()?;
    Ok(Answer::Yes)
}

#[derive(Args)]
pub struct Read {
    /// The resource's URI
    uri: String,
}

impl Read {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let answer = with_client(globals, async |client| {
            client.read_resource(&self.uri).await
        })?;
        say_tier(answer.tier(), answer.passed());
        if globals.json {
            return print(&*answer);
        }
        let mut data = Vec::new();
        for content in &answer.contents {
            let content = serde_json::to_value(content).unwrap_or_default();
            let text = content.get("text").or(content.get("blob"));
            data.extend_from_slice(text.and_then(Value::as_str).unwrap_or_default().as_bytes());
        }
        let mut out = Output::new();
        out.data(&data)?;
        out.flush()?;
        Ok(Answer::Yes)
    }
}

#[derive(Args)]
pub struct Tools {}

impl Tools {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let tools = with_client(globals, async |client| client.list_tools().await)?;
        say_tier(tools.tier(), tools.passed());
        list(globals, "tools", tools.is_partial(), tools.iter(), |tool| {
            (
                tool.name.to_string(),
                tool.description.as_deref().unwrap_or_default(),
            )
        })
    }
}

#[derive(Args)]
pub struct Prompts {}

impl Prompts {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let prompts = with_client(globals, async |client| client.list_prompts().await)?;
        say_tier(prompts.tier(), prompts.passed());
        list(
            globals,
            "prompts",
            prompts.is_partial(),
            prompts.iter(),
            |prompt| {
                (
                    prompt.name.clone(),
                    prompt.description.as_deref().unwrap_or_default(),
                )
            },
        )
    }
}

/// A line for each: JSON, or its name and the first line of its description.
fn list<'a, T: Serialize + 'a>(
    globals: &Globals,
    what: &str,
    partial: bool,
    items: impl Iterator<Item = &'a T>,
    line: impl Fn(&'a T) -> (String, &'a str),
) -> Result<Answer, Failure> {
    let mut out = Output::new();
    let mut items = items.peekable();
    let none = items.peek().is_none();
    for item in items {
        if globals.json {
            out.json(item)?;
        } else {
            let (name, description) = line(item);
            out.line(format_args!(
                "{name}\t{}",
                description.lines().next().unwrap_or_default()
            ))?;
        }
    }
    out.flush()?;
    if none {
        say(format_args!("there are no {what}"));
    }
    if partial {
        say("only what is published: the server could not be asked for the rest");
    }
    Ok(Answer::Yes)
}

#[derive(Args)]
pub struct Call {
    /// The tool's name
    name: String,
    /// Its arguments: a JSON object
    #[arg(default_value = "{}", value_parser = json_object)]
    arguments: serde_json::Map<String, Value>,
}

fn json_object(text: &str) -> Result<serde_json::Map<String, Value>, String> {
    serde_json::from_str(text).map_err(|error| format!("not a JSON object: {error}"))
}

impl Call {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let arguments = Some(self.arguments.clone());
        let result = with_client(globals, async |client| {
            client.call_tool(&self.name, arguments).await
        })?;
        let failed = result.is_error == Some(true);
        if globals.json {
            print(&result)?;
        } else {
            let mut out = Output::new();
            for content in &result.content {
                let content = serde_json::to_value(content).unwrap_or_default();
                match content.get("text").and_then(Value::as_str) {
                    Some(text) => out.line(text)?,
                    None => out.json(&content)?,
                }
            }
            out.flush()?;
        }
        if failed {
            say(format_args!("the tool {} says that it failed", self.name));
        }
        Ok(if failed { Answer::No } else { Answer::Yes })
    }
}

#[derive(Args)]
pub struct Doctor {}

/// What was looked at, and what came of it.
#[derive(Serialize)]
struct Finding {
    what: String,
    works: bool,
    says: String,
}

impl Doctor {
    pub fn run(&self, globals: &Globals) -> Result<Answer, Failure> {
        let config = load(globals)?;
        let findings = run(look(globals.config()?, &config))?;
        let mut out = Output::new();
        for finding in &findings {
            if globals.json {
                out.json(finding)?;
            } else {
                let works = if finding.works { "ok    " } else { "FAILED" };
                out.line(format_args!(
                    "{works} {:<14} {}",
                    finding.what, finding.says
                ))?;
            }
        }
        out.flush()?;
        let all_work = findings.iter().all(|finding| finding.works);
        Ok(if all_work { Answer::Yes } else { Answer::No })
    }
}

async fn look(file: &Path, config: &Config) -> Result<Vec<Finding>, Failure> {
    let mut findings = vec![Finding {
        what: "configuration".to_owned(),
        works: true,
        says: shown(file),
    }];
    findings.push(match &config.l1 {
        Some(l1) => works("L1", format!("up to {} bytes", l1.size)),
        None => works("L1", "switched off".to_owned()),
    });
    findings.push(shared(config));
    // Without shared memory: whether that works has been said.
    let mut alone = config.clone();
    alone.l2 = None;
    let client = HybridClient::from_config(&alone).map_err(failed)?;
    if config.transports.is_empty() {
        findings.push(works("L3", "no transport is configured".to_owned()));
    }
    for (kind, probe) in client.probe().await {
        findings.push(match probe {
            Ok(took) => works(
                kind.name(),
                format!("connected and answered within {took:.1?}"),
            ),
            Err(error) => Finding {
                what: kind.name().to_owned(),
                works: false,
                says: error,
            },
        });
    }
    client.close().await;
    Ok(findings)
}

fn works(what: &str, says: String) -> Finding {
    Finding {
        what: what.to_owned(),
        works: true,
        says,
    }
}

/// Whether the store can be read and its writer lives.
fn shared(config: &Config) -> Finding {
    let Some(l2) = &config.l2 else {
        return works("L2", "switched off".to_owned());
    };
    let found = l2.options().watcher(false).open(&l2.path);
    let found = found.and_then(|reader| Ok((reader.stats()?, reader.liveness())));
    let path = shown(&l2.path);
    let (alive, says) = match found {
        Err(error) => (false, format!("{path}: {}", explained(error))),
        Ok((stats, liveness)) if liveness.verdict() == Verdict::Closed => (
            false,
            format!(
                "{path}: {} entries, but the writer has closed the store: start it again",
                stats.entries
            ),
        ),
        Ok((stats, liveness)) => match liveness.heartbeat_age {
            Some(age) if age <= l2.ttl => (
                true,
                format!("{path}: {} entries, heartbeat {age:.1?} ago", stats.entries),
            ),
            Some(age) => (
                false,
                format!(
                    "{path}: {} entries, but the writer has been silent for {age:.1?}",
                    stats.entries
                ),
            ),
            None => (
                false,
                format!(
                    "{path}: {} entries, but no heartbeat since the host started",
                    stats.entries
                ),
            ),
        },
    };
    Finding {
        what: "L2".to_owned(),
        works: alive,
        says,
    }
}
