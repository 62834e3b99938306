//! The page. It comes anew every few seconds, without a script; all that is not ours in it is escaped.

use crate::facts::{Tone, age, facts, per_second};
use crate::key::escaped;
use crate::output::{grouped, scaled, shown};
use crate::snapshot::Snapshot;
use std::fmt::Write;
use std::path::Path;

/// Seconds after which a browser asks again.
const REFRESH: u32 = 5;

/// Sorted as `sort` says, one of `sorts`.
pub fn page(path: &Path, snapshot: &Snapshot, sort: &str, sorts: &[&str]) -> String {
    let title = html(&shown(path));
    let mut page = format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta http-equiv=\"refresh\" content=\"{REFRESH}\">\n\
         <title>{title}</title>\n\
         <link rel=\"stylesheet\" href=\"style.css\">\n\
         <h1>{title}</h1>\n\
         <dl>\n"
    );
    for fact in facts(Some(snapshot), None) {
        let class = match fact.tone {
            Tone::Plain => "plain",
            Tone::Good => "good",
            Tone::Warning => "warning",
            Tone::Bad => "bad",
        };
        let (name, text) = (html(fact.name), html(&fact.text));
        push(
            &mut page,
            format_args!("<div><dt>{name}</dt><dd class=\"{class}\">{text}</dd></div>\n"),
        );
    }
    page.push_str("</dl>\n");
    if snapshot.store.is_ok() {
        keys(&mut page, snapshot, sort, sorts);
    }
    page.push_str("<footer><a href=\"metrics\">for Prometheus</a></footer>\n");
    page
}

fn keys(page: &mut String, snapshot: &Snapshot, sort: &str, sorts: &[&str]) {
    let keys = &snapshot.keys;
    push(
        page,
        format_args!(
            "<h2>{} of {} keys</h2>\n",
            keys.rows.len(),
            grouped(keys.of)
        ),
    );
    if keys.unreadable > 0 {
        push(
            page,
            format_args!("<p class=\"bad\">damaged: {}</p>\n", keys.unreadable),
        );
    }
    page.push_str("<nav>sorted by");
    for name in sorts {
        let current = if *name == sort {
            " aria-current=\"true\""
        } else {
            ""
        };
        push(
            page,
            format_args!(" <a href=\"?sort={name}\"{current}>{name}</a>"),
        );
    }
    page.push_str(
        "</nav>\n<table>\n<thead><tr><th>size<th>changed<th>updates/s<th>version<th>kind<th>key</thead>\n<tbody>\n",
    );
    for (row, changed) in keys.rows.iter().zip(snapshot.changed.iter()) {
        let expired = if row.expired { " <em>expired</em>" } else { "" };
        push(
            page,
            format_args!(
                "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td><code>{}</code>{expired}\n",
                html(&scaled(row.bytes)),
                html(&age(*changed, snapshot.taken)),
                html(&per_second(snapshot.rate(row))),
                row.version,
                row.kind,
                html(&escaped(&row.key)),
            ),
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

/// Writing to a string cannot fail.
fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = page.write_fmt(text);
}

/// Text, for wherever HTML takes text.
fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}
