//! Exports and imports: from the configuration's words to the broker's settings.

use midge_broker::{
    Access, AccountSettings, Crossing, Exports, Imports, Latency, RESPONSE_THRESHOLD, Response,
    ServiceExport, ServiceImport, StreamExport, StreamImport, crossing_problems,
};
use midge_config::{Account, Export, Import, Problem};
use smol_str::SmolStr;

/// What an account offers.
pub(crate) fn exports(account: &Account) -> Exports {
    let of = |kind| account.exports.iter().filter(move |export| export.crossing == kind);
    let streams = of(midge_config::Crossing::Stream);
    let services = of(midge_config::Crossing::Service);
    Exports {
        streams: streams
            .map(|export| StreamExport { subject: export.subject.clone(), access: access(export) })
            .collect(),
        services: services
            .map(|export| ServiceExport {
                access: access(export),
                response: match export.response {
                    midge_config::Response::Single => Response::Single,
                    midge_config::Response::Stream => Response::Stream,
                    midge_config::Response::Chunked => Response::Chunked,
                },
                threshold: export.response_threshold.unwrap_or(RESPONSE_THRESHOLD),
                latency: export
                    .latency
                    .as_ref()
                    .map(|latency| Latency { subject: latency.subject.clone(), sampling: latency.sampling }),
                allow_trace: export.allow_trace,
                ..ServiceExport::new(export.subject.as_str())
            })
            .collect(),
    }
}

/// An empty list of accounts is none, as in nats-server.
fn access(export: &Export) -> Access {
    match (&export.account_token, &export.accounts) {
        (Some(position), _) => Access::OwnName(*position),
        (None, Some(accounts)) if !accounts.is_empty() => {
            Access::Accounts(accounts.iter().map(SmolStr::from).collect())
        }
        _ => Access::Public,
    }
}

/// What an account takes.
pub(crate) fn imports(account: &Account) -> Imports {
    let mut imports = Imports::default();
    for Import { crossing, account, subject, to, prefix, share, allow_trace, .. } in &account.imports {
        let (account, subject) = (SmolStr::from(account), subject.clone());
        let to = match (to, prefix) {
            (Some(to), _) => to.clone(),
            (None, Some(prefix)) => format!("{}.{subject}", prefix.trim_end_matches('.')),
            (None, None) => subject.clone(),
        };
        match crossing {
            midge_config::Crossing::Stream => {
                let (activation, allow_trace) = (None, *allow_trace);
                imports.streams.push(StreamImport { account, subject, to, activation, allow_trace });
            }
            midge_config::Crossing::Service => {
                imports.services.push(ServiceImport {
                    account,
                    subject,
                    to,
                    share: *share,
                    activation: None,
                });
            }
        }
    }
    imports
}

/// What is wrong with the exports and imports of `accounts`.
pub(crate) fn problems(
    configured: &[Account],
    accounts: &[AccountSettings],
    system: Option<&str>,
) -> Vec<Problem> {
    let problems = crossing_problems(accounts, system);
    let place = |problem: midge_broker::CrossingProblem| {
        let name = &accounts.get(problem.account)?.name;
        let account = configured.iter().find(|account| account.name == **name)?;
        let exports = |kind| account.exports.iter().filter(move |it| it.crossing == kind).map(|it| &it.at.0);
        let imports = |kind| account.imports.iter().filter(move |it| it.crossing == kind).map(|it| &it.at.0);
        use midge_config::Crossing::{Service, Stream};
        let at = match problem.crossing {
            Crossing::Export(midge_broker::Export::Stream(at)) => exports(Stream).nth(at),
            Crossing::Export(midge_broker::Export::Service(at)) => exports(Service).nth(at),
            Crossing::StreamImport(at) => imports(Stream).nth(at),
            Crossing::ServiceImport(at) => imports(Service).nth(at),
        };
        Some(Problem::new(at?, problem.text))
    };
    problems.into_iter().filter_map(place).collect()
}
