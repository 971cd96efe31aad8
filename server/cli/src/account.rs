//! `midge account`

use serde_json::Value;

use crate::api::{Api, Parts};
use crate::cli::Connection;
use crate::cli::account::Account;
use crate::exit::Outcome;
use crate::show::print_json;
use crate::table::Sheet;
use crate::units::{count, limit, size};

pub(crate) async fn run(command: &Account, connection: &Connection) -> Outcome {
    let Account::Info(output) = command;
    let mut api = Api::open(connection).await?;
    let info = api.ask("INFO", &Value::Null).await?;
    match output.json {
        true => print_json(&info),
        false => Ok(sheet(&info, api.link.servers()).print()?),
    }
}

fn sheet(info: &Value, server: &str) -> Sheet {
    let mut sheet = Sheet::new(format!("Account at {server}"));
    sheet.say_if("Domain", info.text("domain"));
    let tiers = info["tiers"].as_object();
    if tiers.is_none_or(serde_json::Map::is_empty) {
        usage(&mut sheet, "", info);
    }
    for (name, tier) in tiers.into_iter().flatten() {
        usage(&mut sheet, &format!("{name} "), tier);
    }
    let api = &info["api"];
    sheet.section("API");
    sheet.say("Level", count(api.count("level")));
    sheet.say("Requests", count(api.count("total")));
    sheet.say("Errors", count(api.count("errors")));
    sheet
}

/// How much is used of what is allowed; a server may have tiers of it.
fn usage(sheet: &mut Sheet, tier: &str, used: &Value) {
    let limits = &used["limits"];
    sheet.section("Streams");
    for (label, name, most) in [("Disk", "storage", "max_storage"), ("Memory", "memory", "max_memory")] {
        let reserved = match used.count(&format!("reserved_{name}")) {
            0 | u64::MAX => String::new(),
            bytes => format!(", {} reserved", size(bytes)),
        };
        let (now, most) = (size(used.count(name)), limit(limits.number(most), size));
        sheet.say(format!("{tier}{label}"), format!("{now} of {most}{reserved}"));
    }
    for (label, name, most) in
        [("Streams", "streams", "max_streams"), ("Consumers", "consumers", "max_consumers")]
    {
        let (now, most) = (count(used.count(name)), limit(limits.number(most), count));
        sheet.say(format!("{tier}{label}"), format!("{now} of {most}"));
    }
    for (label, most) in [
        ("Largest stream on disk", "storage_max_stream_bytes"),
        ("Largest stream in memory", "memory_max_stream_bytes"),
    ] {
        if limits.number(most) > 0 {
            sheet.say(format!("{tier}{label}"), size(limits.count(most)));
        }
    }
}
