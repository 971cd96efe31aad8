//! Who is measured when: all servers in turn, round after round.

use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::certificate::Certificate;
use crate::footprint::Footprint;
use crate::options::Options;
use crate::report::{Cell, Line, Scale, Table};
use crate::servers::{Contender, OURS};
use crate::shapes::Shape;
use crate::streams::STREAMS;
use crate::targets;
use crate::traffic::{self, FIGURES};
use crate::wire::Wire;

/// What a server takes at rest hardly varies, and takes long to see: these rounds are enough.
pub(crate) const FOOTPRINT_ROUNDS: u32 = 2;

/// Everything that is wanted, as tables.
pub(crate) fn measure(options: &Options, contenders: &[Contender]) -> Result<Vec<Table>, String> {
    let certificate = Certificate::new()?;
    let mut tables: Vec<Table> =
        FIGURES.iter().map(|figure| Table { heading: figure.heading.into(), lines: Vec::new() }).collect();
    for shape in options.shapes() {
        let lines = traffic(shape, options, contenders, &certificate);
        for (table, line) in tables.iter_mut().zip(lines) {
            // Not every shape has times.
            if line.cells.iter().any(|cell| !cell.values().is_empty()) {
                table.lines.push(line);
            }
        }
    }
    let mut lines = Vec::new();
    for footprint in options.footprints() {
        lines.extend(rest(footprint, options, contenders));
        if footprint == Footprint::Binary {
            lines.extend(variants(options, contenders)?);
        }
    }
    tables.push(Table { heading: targets::FOOTPRINT.into(), lines });
    tables.retain(|table| !table.lines.is_empty());
    Ok(tables)
}

/// All rounds of one shape: a line for each of [`FIGURES`].
fn traffic(
    shape: &Shape,
    options: &Options,
    contenders: &[Contender],
    certificate: &Certificate,
) -> Vec<Line> {
    let titles = FIGURES.iter().map(|figure| (shape.title(), figure.scale)).collect();
    let mut lines = Lines::new(titles, contenders, shape.fits_mqtt());
    for round in 1..=options.rounds() {
        for (at, contender) in contenders.iter().enumerate() {
            if !lines.wants(at) {
                continue;
            }
            let run = traffic::run(shape, options.share(), options.patience(), contender, certificate);
            let said = run.as_ref().map(|figures| {
                let rate = figures.per_second.map(|rate| format!(", {rate:.0} a second")).unwrap_or_default();
                format!("{} messages{rate}, {:.3} µs of CPU each", figures.deliveries, figures.cpu_us)
            });
            eprintln!(
                "{}, round {round}, {}: {}",
                shape.title(),
                contender.name,
                said.unwrap_or_else(Clone::clone)
            );
            lines.add(at, run.map(|figures| FIGURES.iter().map(|figure| (figure.of)(&figures)).collect()));
        }
    }
    lines.0
}

/// All rounds of one footprint: a line for each of its figures.
fn rest(footprint: Footprint, options: &Options, contenders: &[Contender]) -> Vec<Line> {
    let mut lines = Lines::new(footprint.figures(), contenders, footprint.fits_mqtt());
    let enough = allow_descriptors(footprint.descriptors());
    let rounds = if footprint.is_exact() { 1 } else { options.rounds().min(FOOTPRINT_ROUNDS) };
    for round in 1..=rounds {
        let measure = |contender: &Contender| {
            let measured = enough.clone().and_then(|()| footprint.measure(contender, options.patience()));
            let said = measured.as_ref().map(|figures| format!("{figures:.2?}"));
            eprintln!(
                "{}, round {round}, {}: {}",
                footprint.title(),
                contender.name,
                said.unwrap_or_else(Clone::clone)
            );
            measured.map(|figures| figures.into_iter().map(Some).collect())
        };
        let wanted: Vec<_> = contenders.iter().enumerate().filter(|(at, _)| lines.wants(*at)).collect();
        let measured: Vec<_> = if footprint.is_quiet() {
            thread::scope(|scope| {
                let threads: Vec<_> =
                    wanted.iter().map(|(at, contender)| (*at, scope.spawn(|| measure(contender)))).collect();
                threads.into_iter().map(|(at, thread)| (at, thread.join().expect("no panic"))).collect()
            })
        } else {
            wanted.iter().map(|(at, contender)| (*at, measure(contender))).collect()
        };
        for (at, measured) in measured {
            lines.add(at, measured);
        }
    }
    lines.0
}

/// All rounds of what streams are measured with.
pub(crate) fn streams(options: &Options, contenders: &[Contender]) -> Table {
    let mut all = Vec::new();
    for work in options.works() {
        let mut lines = Lines::new(work.figures(), contenders, false);
        for (at, _) in contenders.iter().enumerate().filter(|(_, contender)| !work.fits(contender)) {
            lines.0.iter_mut().for_each(|line| line.cells[at] = Cell::Unfit);
        }
        let rounds = if work.is_long() { options.rounds().min(FOOTPRINT_ROUNDS) } else { options.rounds() };
        for round in 1..=rounds {
            for (at, contender) in contenders.iter().enumerate() {
                if !lines.wants(at) {
                    continue;
                }
                let measured = work.measure(contender, options.share(), options.patience());
                let said = measured.as_ref().map(|figures| format!("{figures:.2?}"));
                let said = said.unwrap_or_else(Clone::clone);
                eprintln!("{}, round {round}, {}: {said}", work.title(), contender.name);
                lines.add(at, measured.map(|figures| figures.into_iter().map(Some).collect()));
            }
        }
        all.extend(lines.0);
    }
    Table { heading: STREAMS.into(), lines: all }
}

/// The sizes of our binary with other features.
fn variants(options: &Options, contenders: &[Contender]) -> Result<Vec<Line>, String> {
    let mut all = Vec::new();
    for (name, path) in &options.variant {
        let contender = Contender::nats(OURS, path)?;
        let figures = Footprint::Binary.figures().into_iter();
        let titles = figures.map(|(title, scale)| (format!("{title}, {name}"), scale)).collect();
        let mut lines = Lines::new(titles, contenders, false);
        let at = contenders.iter().position(|contender| contender.name == OURS);
        let size = Footprint::Binary.measure(&contender, options.patience());
        for line in &mut lines.0 {
            line.cells.fill(Cell::Unfit);
        }
        if let Some(at) = at {
            lines.0.iter_mut().for_each(|line| line.cells[at] = Cell::Values(Vec::new()));
            lines.add(at, size.map(|figures| figures.into_iter().map(Some).collect()));
        }
        all.extend(lines.0);
    }
    Ok(all)
}

/// Lines that fill up as servers take their turns.
struct Lines(Vec<Line>);

impl Lines {
    fn new(titles: Vec<(String, Scale)>, contenders: &[Contender], fits_mqtt: bool) -> Self {
        let cells: Vec<Cell> = contenders
            .iter()
            .map(|contender| match contender.wire() {
                Wire::Mqtt if !fits_mqtt => Cell::Unfit,
                _ => Cell::Values(Vec::new()),
            })
            .collect();
        let line = |(title, scale)| Line { title, scale, cells: cells.clone() };
        Self(titles.into_iter().map(line).collect())
    }

    /// Whether the server in this column can do it, and did so far.
    fn wants(&self, at: usize) -> bool {
        self.0.iter().any(|line| matches!(line.cells[at], Cell::Values(_)))
    }

    /// One figure for each line; some may have none.
    fn add(&mut self, at: usize, measured: Result<Vec<Option<f64>>, String>) {
        match measured {
            Ok(figures) => {
                for (line, figure) in self.0.iter_mut().zip(figures) {
                    if let Cell::Values(values) = &mut line.cells[at] {
                        values.extend(figure);
                    }
                }
            }
            Err(why) => self.0.iter_mut().for_each(|line| line.cells[at] = Cell::Failed(why.clone())),
        }
    }
}

/// Raises the limit of open files to `wanted` if it is lower, for this process and those that it starts.
fn allow_descriptors(wanted: u64) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum })
        .map_err(|error| format!("no more than {:?} open files are allowed: {error}", limit.maximum))
}
