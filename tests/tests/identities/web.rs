//! Accounts that are fetched from a web server.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;

use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use midge_jwt::{
    Account, Claims, Crossing, Export, Grant, Import, KeyPair, Kind, Limits, Operator, Token, User,
};
use midge_tests::daemon::{Daemon, PATIENCE};
use midge_tests::foreign::round_trip;
use socket2::{Domain, Socket, Type};
use tokio::time::timeout;

use crate::{creds, key, now, programs};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A web server with these pages, and the paths that it was asked for. It ends with the process.
struct Pages {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Pages {
    fn serve(pages: BTreeMap<String, String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&asked);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Ok(reading) = stream.try_clone() else { continue };
                let lines = BufReader::new(reading).lines().map_while(Result::ok);
                let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
                let path =
                    lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
                let (status, body) = match pages.get(&path) {
                    Some(body) => ("200 OK", body.as_str()),
                    None => ("404 Not Found", ""),
                };
                note.lock().expect("no panic").push(path);
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                // Whoever asked may have gone.
                let _ = stream.write_all(format!("{head}{body}").as_bytes());
            }
        });
        Self { address, asked }
    }

    fn count(&self, path: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|asked| *asked == path).count()
    }
}

async fn enter(daemon: &Daemon, account: &KeyPair) -> Result<Client, Failure> {
    let user = key(Kind::User, 9);
    let body = User { grant: Grant::unlimited(), ..User::default() };
    let token = Token { claims: Claims::about(user.public()), body }.encode(account, now() - 10);
    let options = ConnectOptions::with_credentials(&creds(&token, &user))?;
    Ok(options.connect(format!("nats://{}", daemon.address())).await?)
}

#[test]
fn accounts_are_fetched_when_somebody_comes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let (operator, stranger) = (key(Kind::Operator, 1), key(Kind::Operator, 2));
    let [system, house, shed, nobody, foreign] = [3, 4, 5, 6, 7].map(|seed| key(Kind::Account, seed));
    let path = |account: &KeyPair| format!("/jwt/v1/accounts/{}", account.public());
    let page = |account: &KeyPair, by: &KeyPair, change: &dyn Fn(&mut Account)| {
        let mut body = Account { limits: Limits::unlimited(), ..Account::default() };
        change(&mut body);
        (path(account), Token { claims: Claims::about(account.public()), body }.encode(by, now() - 10))
    };
    let exports = |body: &mut Account| {
        let export = Export { subject: "out.>".into(), kind: Crossing::Stream, ..Export::default() };
        body.exports.push(export);
    };
    let imports = |body: &mut Account| {
        let account = house.public().to_string();
        let import = Import { subject: "out.>".into(), account, kind: Crossing::Stream, ..Import::default() };
        body.imports.push(import);
    };
    let system_account = system.public().to_string();
    let body = Operator { system_account, ..Operator::default() };
    let acme = Token { claims: Claims::about(operator.public()), body }.encode(&operator, now());
    for (name, program) in programs() {
        let pages = Pages::serve(
            [
                // nats-server looks whether somebody is there before it starts.
                ("/jwt/v1/accounts/".to_owned(), String::new()),
                page(&system, &operator, &|_| {}),
                page(&house, &operator, &exports),
                page(&shed, &operator, &imports),
                page(&foreign, &stranger, &|_| {}),
            ]
            .into(),
        );
        let config =
            format!("operator: {acme}\nresolver: URL(\"http://{}/jwt/v1/accounts/\")", pages.address);
        let daemon = Daemon::start(program, Some(&config), &[]).unwrap_or_else(|why| panic!("{name}: {why}"));
        let play = async {
            let sheds = enter(&daemon, &shed).await?;
            let mut heard = sheds.subscribe("out.*").await?;
            round_trip(&sheds).await?;
            let houses = enter(&daemon, &house).await?;
            houses.publish("out.x", "news".into()).await?;
            let message = timeout(PATIENCE, heard.next()).await?.ok_or("the subscription ended")?;
            assert_eq!(message.payload, "news");
            enter(&daemon, &shed).await?;
            Ok::<_, Failure>([
                enter(&daemon, &nobody).await.is_err(),
                enter(&daemon, &foreign).await.is_err(),
            ])
        };
        let refused =
            runtime.block_on(play).unwrap_or_else(|why| panic!("{name}: {why}\n{}", daemon.stderr().text()));
        assert_eq!(refused, [true, true], "{name}");
        // An account that is known isn't asked for again.
        assert_eq!((pages.count(&path(&shed)), pages.count(&path(&house))), (1, 1), "{name}");
        assert!(pages.count(&path(&nobody)) >= 1, "{name}");
    }
    // A port that is held, so that nobody listens there: a server that can't find its own account doesn't start.
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    held.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let silent = held.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
    for (name, program) in programs() {
        let config = format!("operator: {acme}\nresolver: URL(http://{silent}/)");
        let started = Daemon::start(program, Some(&config), &[]);
        assert!(started.is_err_and(|why| why.contains("could not fetch")), "{name}");
    }
}
