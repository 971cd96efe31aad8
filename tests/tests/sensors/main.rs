//! What `docs/sensors.md` tells people to type works as it is written there.

mod line;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use midge_tests::daemon::{Daemon, Program};
use midge_tests::peer::Peer;
use midge_tests::process::{Process, eventually};
use tempfile::TempDir;

/// A fenced block with a tag: ```` ```sh sensor=nc ````.
struct Block {
    language: String,
    tag: String,
    code: String,
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sensors.md");
    fs::read_to_string(&path).unwrap_or_else(|err| panic!("{}: {err}", path.display()))
}

fn blocks() -> Vec<Block> {
    let text = document();
    let mut lines = text.lines();
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(info) = line.strip_prefix("```") else { continue };
        let code: String =
            lines.by_ref().take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
        if let Some((language, tag)) = info.split_once(' ') {
            blocks.push(Block { language: language.into(), tag: tag.into(), code });
        }
    }
    blocks
}

fn block(tag: &str) -> Block {
    blocks().into_iter().find(|block| block.tag == tag).unwrap_or_else(|| panic!("no block {tag:?}"))
}

impl Block {
    /// The code as it stands, in the shell or interpreter that it is for.
    fn command(&self, daemon: &Daemon) -> Command {
        let interpreter = match self.language.as_str() {
            "python" => "python3",
            shell => shell,
        };
        let mut command = Command::new(interpreter);
        command.arg("-c").arg(&self.code);
        command.env("HOST", daemon.address().ip().to_string());
        command.env("PORT", daemon.address().port().to_string());
        command
    }
}

fn start() -> Daemon {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    Daemon::start(program, None, &["-D".into()]).unwrap_or_else(|why| panic!("{why}"))
}

/// Fails if a program that the document names is missing here.
fn require(program: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    assert!(found, "no {program} here: run tests/setup, which says what to install");
}

fn subscriber(daemon: &Daemon) -> Peer {
    let mut peer = Peer::greeted(daemon.address(), r#"{"verbose":false}"#).expect("a greeting");
    peer.send("SUB sensors.> 1\r\n");
    peer.fence().expect("service");
    peer
}

fn assert_reading(peer: &mut Peer, tag: &str) {
    for line in ["MSG sensors.attic.temp 1 4", "21.5"] {
        assert_eq!(peer.line(), Ok(Some(line.into())), "{tag}");
    }
}

#[test]
fn every_sensor_is_heard() {
    ["nc", "bash", "python3"].into_iter().for_each(require);
    let daemon = start();
    let mut peer = subscriber(&daemon);
    let sensors: Vec<_> = blocks().into_iter().filter(|block| block.tag.starts_with("sensor=")).collect();
    assert_eq!(sensors.len(), 5);
    for sensor in sensors {
        let ended = Process::start(&mut sensor.command(&daemon)).and_then(Process::end);
        let ended = ended.unwrap_or_else(|why| panic!("{}: {why}", sensor.tag));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{}: {ended:?}", sensor.tag);
        assert_reading(&mut peer, &sensor.tag);
    }
    peer.fence().expect("nothing more than one reading each");
}

#[test]
fn a_serial_line_is_heard() {
    ["socat", "stty", "nc"].into_iter().for_each(require);
    for (tag, says) in
        [("serial=protocol", "PONG\r\nPUB sensors.attic.temp 4\r\n21.5\r\n"), ("serial=readings", "21.5\r\n")]
    {
        let directory = TempDir::new().expect("a directory");
        let (serial, device) = (directory.path().join("serial"), directory.path().join("device"));
        let daemon = start();
        let line = |tag| -> Process {
            let mut command = block(tag).command(&daemon);
            command.env("SERIAL", &serial).env("DEVICE", &device);
            Process::start(&mut command).unwrap_or_else(|why| panic!("{tag}: {why}"))
        };
        let _pair = line("serial=pair");
        eventually(|| (serial.exists() && device.exists()).then_some(())).expect("a pair of terminals");
        let mut peer = subscriber(&daemon);
        // What is written now waits in the terminal until it is read.
        let _bridge = line(tag);
        for _ in 0..3 {
            fs::write(&device, says).expect("written to the device's end");
            assert_reading(&mut peer, tag);
        }
    }
}

#[test]
fn a_device_that_can_only_talk_says_pong_unasked() {
    let program = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let daemon = Daemon::start(program, Some("ping_interval: '20ms', ping_max: 100"), &[]).expect("started");
    let [mut polite, mut rude] =
        [(); 2].map(|()| Peer::greeted(daemon.address(), r#"{"verbose":false}"#).expect("a greeting"));
    loop {
        match rude.any_line().expect("a line").as_deref() {
            Some("PING") => {
                rude.send("PUB sensors.attic.temp 4\r\n21.5\r\n");
                polite.send("PONG\r\nPUB sensors.attic.temp 4\r\n21.5\r\n");
            }
            Some("-ERR 'Stale Connection'") => break,
            other => panic!("{other:?}"),
        }
    }
    polite.send("SUB late 1\r\nPUB late 0\r\n\r\n");
    while polite.line().expect("a line").expect("a connection") != "MSG late 1 0" {}
}

#[test]
fn every_reader_shows_readings() {
    require("nc");
    let daemon = start();
    let mut sensor = Peer::greeted(daemon.address(), r#"{"verbose":false}"#).expect("a greeting");
    let midge = midge();
    let readers: Vec<_> = blocks().into_iter().filter(|block| block.tag.starts_with("reader=")).collect();
    assert_eq!(readers.len(), 2);
    for reader in readers {
        let mut command = reader.command(&daemon);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let places = midge.parent().map(Path::to_path_buf).into_iter().chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(places).expect("a search path"));
        let process = Process::start(&mut command).unwrap_or_else(|why| panic!("{}: {why}", reader.tag));
        let shown = eventually(|| {
            // Again, because nobody tells when the reader has subscribed.
            sensor.send("PUB sensors.attic.temp 4\r\n21.5\r\n");
            let text = process.stdout().text();
            (text.contains("sensors.attic.temp") && text.contains("21.5")).then_some(())
        });
        assert!(shown.is_some(), "{}: {}\n{}", reader.tag, process.stdout().text(), process.stderr().text());
    }
}

/// The operator's tool, built where midged is.
fn midge() -> PathBuf {
    let midged = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    let midge = midged.path().with_file_name("midge");
    assert!(midge.is_file(), "no {}: run `cargo build -p midge-cli`", midge.display());
    midge
}

#[test]
fn errors_are_as_the_table_says() {
    let text = document();
    let rows = text.lines().skip_while(|line| !line.starts_with("| You say | midged answers |")).skip(2);
    let rows: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 8);
    let ours = Program::ours().unwrap_or_else(|why| panic!("{why}"));
    for program in [ours].into_iter().chain(Program::reference()) {
        let daemon = Daemon::start(program, None, &[]).unwrap_or_else(|why| panic!("{why}"));
        for row in &rows {
            let cells: Vec<_> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`'])).collect();
            let [says, answer, why] = cells[..] else { panic!("{row}") };
            let mut peer = Peer::greeted(daemon.address(), r#"{"verbose":false}"#).expect("a greeting");
            peer.send(&says.replace("\\r", "\r").replace("\\n", "\n"));
            if answer.starts_with("-ERR") {
                assert_eq!(peer.line(), Ok(Some(answer.into())), "{row}");
            }
            if why.contains("goes on") {
                peer.fence().unwrap_or_else(|err| panic!("{row}: {err}"));
            } else {
                assert_eq!(peer.rest(), Ok(Vec::new()), "{row}");
            }
        }
    }
}
