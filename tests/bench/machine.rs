//! Where and of what a report was made.

use std::fs;
use std::path::Path;
use std::process::Command;

/// What a reader needs to compare figures with others.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    /// Bytes of main memory.
    pub(crate) memory: u64,
    pub(crate) kernel: String,
    pub(crate) system: String,
    /// Of this project; with `-dirty` if files differ from it.
    pub(crate) commit: String,
    pub(crate) compiler: String,
    /// UTC.
    pub(crate) date: String,
}

impl Machine {
    /// This one, and the project in `root`. `report` is a file whose changes don't count.
    pub(crate) fn this(root: &Path, report: &str) -> Result<Self, String> {
        let cpuinfo = read("/proc/cpuinfo")?;
        // Boards name the whole machine rather than the processor.
        let cpu = field(&cpuinfo, "model name").or_else(|| field(&cpuinfo, "Model")).or_else(|| {
            let model = fs::read_to_string("/proc/device-tree/model").ok()?;
            Some(model.trim_end_matches('\0').to_owned())
        });
        let memory = field(&read("/proc/meminfo")?, "MemTotal");
        let memory: u64 = memory.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let system = os.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
        let commit = says(root, "git", &["rev-parse", "--short=12", "HEAD"])?;
        let exclude = format!(":(exclude){report}");
        let changes = says(root, "git", &["status", "--porcelain", "--", ".", &exclude])?;
        Ok(Self {
            cpu: cpu.unwrap_or_else(|| "unknown".into()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory * 1024,
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            system: system.unwrap_or("Linux").trim_matches('"').to_owned(),
            commit: if changes.is_empty() { commit } else { format!("{commit}-dirty") },
            compiler: says(root, "rustc", &["--version"])?,
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        })
    }
}

fn read(path: &str) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

/// The value in a line `key : value`.
fn field(text: &str, key: &str) -> Option<String> {
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find_map(|(found, value)| (found.trim() == key).then(|| value.trim().to_owned()))
}

fn says(directory: &Path, program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "processor\t: 0\nmodel name\t: A: B\n";
        assert_eq!(field(text, "model name").as_deref(), Some("A: B"));
        assert_eq!(field(text, "name"), None);
    }
}
