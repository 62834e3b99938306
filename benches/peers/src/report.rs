//! The tables of the README and of docs/performance.md, between their marks, and the plots in docs.

use std::path::{Path, PathBuf};

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::order::Order;
use crate::results::{Row, rows};

type Error = Box<dyn std::error::Error>;

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All of it.
pub fn run() -> Result<(), Error> {
    let rows = rows();
    rewrite("README.md", &[("peers", peers(&rows))])?;
    let tables = [
        ("writes", writes(&rows)),
        ("beside", beside(&rows)),
        ("sizes", sizes(&rows)),
        ("targets", targets(&rows)),
    ];
    rewrite("docs/performance.md", &tables)?;
    percentiles(&rows, &project().join("docs/latency.svg"))?;
    growth(&rows, &project().join("docs/growth.svg"))
}

/// Puts tables into a page, each by its name.
fn rewrite(page: &str, tables: &[(&str, String)]) -> Result<(), Error> {
    let page = project().join(page);
    let mut text = std::fs::read_to_string(&page)?;
    for (name, table) in tables {
        splice(&mut text, name, table)?;
    }
    Ok(std::fs::write(page, text)?)
}

/// Puts a table in the place of the one between two marks.
fn splice(text: &mut String, name: &str, table: &str) -> Result<(), Error> {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let from = text.find(&begin).ok_or("no mark")? + begin.len();
    let to = text.find(&end).ok_or("no mark")?;
    text.replace_range(from..to, table);
    Ok(())
}

fn in_reads(rows: &[Row], keys: usize) -> Vec<&Row> {
    let wanted = |row: &&Row| {
        row.group == "reads"
            && row.keys == keys
            && row.value == 1 << 10
            && row.order == Order::Uniform
    };
    rows.iter().filter(wanted).collect()
}

fn find<'a>(rows: &'a [Row], group: &str, peer: &str, keys: usize, load: &str) -> Option<&'a Row> {
    rows.iter().find(|row| {
        row.group == group
            && row.peer == peer
            && (keys == 0 || row.keys == keys)
            && row.load == load
            && row.order == Order::Uniform
            && (group != "reads" || row.value == 1 << 10)
    })
}

fn peers(rows: &[Row]) -> String {
    let mut table = String::from(
        "| lookup of 1 KiB among 10,000 keys | ns | x the floor | dependent, ns | x the floor | p50 | p99 | p99.9 |\n|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in in_reads(rows, 10_000) {
        table += &format!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.2} | {} | {} | {} |\n",
            row.peer,
            row.ns,
            row.ratio,
            row.dependent,
            row.dependent_ratio,
            row.p50,
            row.p99,
            row.p999
        );
    }
    table
}

/// Puts from Rust and from Erlang.
fn writes(rows: &[Row]) -> String {
    let mut table = String::from("| put of 1 KiB | ns | x its parts |\n|---|--:|--:|\n");
    for row in rows.iter().filter(|row| row.group == "writes") {
        table += &format!("| {} | {:.0} | {:.2} |\n", row.peer, row.ns, row.ratio);
    }
    table += "\n| from Erlang, 1 KiB, 10,000 keys | ns | x ets:insert | p50 | p99 | p99.9 |\n|---|--:|--:|--:|--:|--:|\n";
    for row in rows.iter().filter(|row| row.group == "erlang") {
        table += &format!(
            "| `{}` | {:.0} | {:.2} | {} | {} | {} |\n",
            row.peer, row.ns, row.ratio, row.p50, row.p99, row.p999
        );
    }
    table
}

/// What else goes on: a writer, more readers, rollovers.
fn beside(rows: &[Row]) -> String {
    let group = |name: &'static str| rows.iter().filter(move |row| row.group == name);
    let mut table = String::from(
        "| lookup while another process writes | | updates a second | mean, ns | p50 | p99 | p99.9 | p99.9, x idle |\n|---|---|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in group("load") {
        table += &format!(
            "| {} | {} | {:.0} | {:.0} | {} | {} | {} | {:.2} |\n",
            row.peer, row.load, row.rate, row.ns, row.p50, row.p99, row.p999, row.ratio
        );
    }
    table += "\n| readers at once | one thread, ns | two, ns a lookup of both together | x the throughput of one |\n|---|--:|--:|--:|\n";
    for two in group("threads").filter(|row| row.load == "two threads") {
        let one = find(rows, "threads", &two.peer, two.keys, "one thread");
        table += &format!(
            "| {} | {:.0} | {:.0} | {:.2} |\n",
            two.peer,
            one.map_or(0.0, |row| row.ns),
            two.ns,
            two.ratio
        );
    }
    if group("processes").next().is_some() {
        table += "\n| reader processes at once | ns a lookup, of all together | x the throughput of one |\n|---|--:|--:|\n";
    }
    for row in group("processes") {
        table += &format!("| {} | {:.0} | {:.2} |\n", row.load, row.ns, row.ratio);
    }
    table += "\n| with 64 MiB live, us | p50 | p99.9 | p99.99 | longest |\n|---|--:|--:|--:|--:|\n";
    for row in group("rollover").filter(|row| row.p50 > 0) {
        let us = |ns: u64| ns as f64 / 1e3;
        table += &format!(
            "| {}, {} | {:.1} | {:.1} | {:.0} | {:.0} |\n",
            row.peer,
            row.load,
            us(row.p50),
            us(row.p999),
            us(row.p9999),
            us(row.max)
        );
    }
    for row in group("rollover").filter(|row| row.p50 == 0) {
        table += &format!(
            "\nA rollover with 64 MiB live takes {:.2} ms for each of them.\n",
            row.ns / 1e6
        );
    }
    table
}

/// How cost grows, in time and in memory, and what larger pages can give.
fn sizes(rows: &[Row]) -> String {
    let mut table = String::from(
        "| lookup of 1 KiB, by keys | ns | x the floor | dependent, ns | x the floor | get_many of 16, ns |\n|--:|--:|--:|--:|--:|--:|\n",
    );
    let uniform = |row: &&Row| {
        row.group == "reads"
            && row.peer == "erlmcp-shm"
            && row.value == 1 << 10
            && row.order == Order::Uniform
    };
    let mut ours: Vec<&Row> = rows.iter().filter(uniform).collect();
    ours.sort_by_key(|row| row.keys);
    // The long form has some of them twice.
    ours.dedup_by_key(|row| row.keys);
    for row in ours {
        let many = find(
            rows,
            "reads",
            "erlmcp-shm, get_many of 16",
            row.keys,
            "idle",
        );
        table += &format!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} |\n",
            row.keys,
            row.ns,
            row.ratio,
            row.dependent,
            row.dependent_ratio,
            many.map_or(0.0, |row| row.ns)
        );
    }
    table += "\n| bytes of an entry over its payload | |\n|---|--:|\n";
    for row in rows.iter().filter(|row| row.group == "memory") {
        table += &format!(
            "| {}, {} x {} B | {:.0} |\n",
            row.peer, row.keys, row.value, row.bytes
        );
    }
    table += "\n| what pages give here: dependent reads | ns | x 4 KiB pages |\n|---|--:|--:|\n";
    for row in rows.iter().filter(|row| row.group == "pages") {
        table += &format!(
            "| {}, {} | {:.0} | {:.2} |\n",
            row.peer, row.load, row.dependent, row.dependent_ratio
        );
    }
    table
}

/// One target: what, the most that the figure may be, and the figure.
fn targets(rows: &[Row]) -> String {
    let get = |keys| find(rows, "reads", "erlmcp-shm", keys, "idle");
    let small = find(rows, "reads", "erlmcp-shm on 4 KiB pages", 10_000, "idle");
    let many = find(rows, "reads", "erlmcp-shm, get_many of 16", 200_000, "idle");
    let load = |load| find(rows, "load", "erlmcp-shm", 10_000, load);
    let write = |peer| find(rows, "writes", peer, 0, "idle");
    let single = write("erlmcp-shm").map(|row| row.ns);
    let over = |a: Option<f64>, b: Option<f64>| Some(a? / b?);
    let ms = |what| find(rows, "rollover", what, 0, "rollovers").map(|row| row.p9999 as f64 / 1e6);
    let figures: [(&str, f64, Option<f64>); 12] = [
        (
            "get on 4 KiB pages, overlapped, over the floor on the same",
            1.15,
            small.map(|row| row.ratio),
        ),
        (
            "get on 4 KiB pages, dependent, over the same",
            1.15,
            small.map(|row| row.dependent_ratio),
        ),
        (
            "the worse of them with 2 MiB pages",
            0.9,
            get(10_000).map(|r| r.ratio.max(r.dependent_ratio)),
        ),
        (
            "the same among 200,000 keys",
            0.75,
            get(200_000).map(|r| r.ratio.max(r.dependent_ratio)),
        ),
        (
            "get_many of 16 among 200,000, over single gets",
            0.5,
            over(many.map(|r| r.ns), get(200_000).map(|r| r.ns)),
        ),
        (
            "p99.9 under a flat-out writer, over idle",
            1.2,
            load("flat out").map(|row| row.ratio),
        ),
        (
            "two readers: ns a lookup of both together, over one's",
            1.0 / 1.9,
            find(rows, "threads", "erlmcp-shm", 0, "two threads").map(|row| 1.0 / row.ratio),
        ),
        (
            "put from Rust, over its parts",
            1.3,
            write("erlmcp-shm").map(|row| row.ratio),
        ),
        (
            "an entry of a batch of 100, over a put",
            0.5,
            over(write("erlmcp-shm, batches of 100").map(|r| r.ns), single),
        ),
        (
            "export_resource, over ets:insert",
            1.5,
            find(rows, "erlang", "export_resource", 0, "idle").map(|row| row.ratio),
        ),
        (
            "p99.99 of puts during rollovers with 64 MiB live, ms",
            1.0,
            ms("put"),
        ),
        ("p99.99 of lookups during them, ms", 1.0, ms("lookup")),
    ];
    let mut table = String::from("| target | at most | measured | |\n|---|--:|--:|---|\n");
    for (what, most, figure) in figures {
        let (figure, met) = match figure {
            Some(figure) => (
                format!("{figure:.2}"),
                if figure <= most { "met" } else { "missed" },
            ),
            None => ("-".into(), "not measured"),
        };
        table += &format!("| {what} | {most:.2} | {figure} | {met} |\n");
    }
    table
}

const COLOURS: [RGBColor; 3] = [
    RGBColor(0x2b, 0x6c, 0xb0),
    RGBColor(0xdd, 0x8b, 0x2f),
    RGBColor(0xb8, 0x32, 0x32),
];

/// Percentiles by peer: a group of three bars each, on a logarithmic axis.
fn percentiles(rows: &[Row], path: &Path) -> Result<(), Error> {
    let lookups = ["lookup", "ets:lookup", "persistent_term:get"];
    let from_erlang = rows
        .iter()
        .filter(|row| row.group == "erlang" && lookups.contains(&row.peer.as_str()))
        .map(|row| (format!("{}, from Erlang", row.peer), row));
    let rows: Vec<(String, &Row)> = in_reads(rows, 10_000)
        .into_iter()
        .map(|row| (row.peer.clone(), row))
        .chain(from_erlang)
        .collect();
    let area = SVGBackend::new(path, (900, 60 + 46 * rows.len() as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let most = rows.iter().map(|(_, row)| row.p999).max().unwrap_or(1) as f64 * 2.0;
    let title = "A lookup of 1 KiB among 10,000 keys, timed one by one";
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(220)
        .build_cartesian_2d((10f64..most).log_scale(), 0f64..rows.len() as f64)?;
    let names: Vec<_> = rows.iter().rev().map(|(name, _)| name.clone()).collect();
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_desc(
            "ns, logarithmic; the timer's own 20 to 30 ns are in it; get_many here with one key",
        )
        .x_label_formatter(&|ns| format!("{ns:.0}"))
        .draw()?;
    for (i, name) in names.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(10.0, i as f64 + 0.5));
        let right = Pos::new(HPos::Right, VPos::Center);
        let style = ("sans-serif", 14).into_font().color(&BLACK).pos(right);
        area.draw(&Text::new(name.clone(), (x - 8, y), style))?;
    }
    for (k, percent) in ["p50", "p99", "p99.9"].into_iter().enumerate() {
        let colour = COLOURS[k];
        let bars = rows.iter().rev().enumerate().map(|(i, (_, row))| {
            let of = [row.p50, row.p99, row.p999][k] as f64;
            let bottom = i as f64 + 0.85 - 0.25 * (k + 1) as f64;
            Rectangle::new([(10.0, bottom), (of, bottom + 0.22)], colour.filled())
        });
        chart
            .draw_series(bars)?
            .label(percent)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}

/// The cost of a lookup by the number of keys.
fn growth(rows: &[Row], path: &Path) -> Result<(), Error> {
    let area = SVGBackend::new(path, (900, 460)).into_drawing_area();
    area.fill(&WHITE)?;
    let lines = ["erlmcp-shm", "erlmcp-shm, get_many of 16", "the floor"];
    let points = |peer: &str| {
        let of = |row: &&Row| {
            row.group == "reads"
                && row.peer == peer
                && row.value == 1 << 10
                && row.order == Order::Uniform
        };
        let mut points: Vec<_> = rows
            .iter()
            .filter(of)
            .map(|row| (row.keys as f64, row.ns))
            .collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        // The long form has some of them twice.
        points.dedup_by_key(|point| point.0);
        points
    };
    let most = lines
        .iter()
        .flat_map(|peer| points(peer))
        .map(|(_, ns)| ns)
        .fold(0.0, f64::max);
    let widest = points(lines[0]).last().map_or(200_000.0, |(keys, _)| *keys);
    let mut chart = ChartBuilder::on(&area)
        .caption(
            "What a lookup of 1 KiB costs, by the number of keys",
            ("sans-serif", 20),
        )
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(60)
        .build_cartesian_2d((80f64..widest * 1.5).log_scale(), 0f64..most * 1.15)?;
    chart
        .configure_mesh()
        .x_desc("keys, logarithmic")
        .y_desc("ns a lookup, overlapped")
        .x_label_formatter(&|keys| format!("{keys:.0}"))
        .y_label_formatter(&|ns| format!("{ns:.0}"))
        .draw()?;
    for (peer, colour) in lines.into_iter().zip(COLOURS) {
        chart
            .draw_series(LineSeries::new(points(peer), colour.stroke_width(2)).point_size(4))?
            .label(peer)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK)
        .background_style(WHITE)
        .draw()?;
    area.present()?;
    Ok(())
}
