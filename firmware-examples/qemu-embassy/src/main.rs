//! A sensor node on an LM3S6965, over Ethernet: embassy, an address from DHCP, a log in defmt.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use defmt_semihosting as _;
use embassy_net::{Config, Runner, Stack, StackResources};
use lm3s6965::Ethernet;
use node::asynchronous::{Network, run};
use node::{Board, Instant, Log, Login, Memory, Names, Room, names};
use static_cell::StaticCell;

const NAMES: Names = names!("office", "qemu-embassy");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("office");

#[entry]
fn main() -> ! {
    let core = cortex_m::Peripherals::take().unwrap();
    let start = emulated::start();
    lm3s6965::run(core.SYST, |spawner| {
        static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
        let (stack, runner) = embassy_net::new(
            Ethernet::start().interrupts(),
            Config::dhcpv4(Default::default()),
            RESOURCES.init(StackResources::new()),
            start.into(),
        );
        spawner.spawn(network(runner).unwrap());
        spawner.spawn(sensor(stack, start).unwrap());
    })
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Ethernet>) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn sensor(stack: Stack<'static>, start: u32) -> ! {
    let mut memory = Memory::<512, 512, 4096>::new();
    let mut uplink = Network::<1536, 1536>::new(stack, emulated::BROKER);
    run(&mut Bare(Room::default()), &mut uplink, &NAMES, &LOGIN, &mut memory, start).await
}

struct Bare(Room);

impl Board for Bare {
    fn now(&self) -> Instant {
        node::asynchronous::now()
    }

    fn celsius_x100(&mut self) -> i16 {
        self.0.celsius_x100()
    }

    fn heat(&mut self, on: bool) {
        self.0.heat(on);
    }

    fn log(&mut self, line: Log) {
        line.defmt();
    }
}
