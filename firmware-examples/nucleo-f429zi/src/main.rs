//! A sensor node on a Nucleo-F429ZI (STM32F429, Cortex-M4), over its Ethernet: embassy, an address from DHCP, the chip's own
//! thermometer and random numbers, a log in defmt.
#![no_std]
#![no_main]

use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_stm32::adc::{Adc, SampleTime, Temperature};
use embassy_stm32::eth::{self, Ethernet, GenericPhy, PacketQueue, Sma};
use embassy_stm32::gpio::{Level, Output, Speed};
use embassy_stm32::peripherals::{ADC1, ETH, ETH_SMA, RNG};
use embassy_stm32::rng::{self, Rng};
use embassy_stm32::time::Hertz;
use embassy_stm32::{Config, bind_interrupts};
use node::asynchronous::{Network, run};
use node::{Board, Instant, Log, Login, Memory, Names, Thermometer, names};
use panic_probe as _;
use static_cell::StaticCell;

const NAMES: Names = names!("workshop", "nucleo-f429zi");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("workshop");
/// Where midged is.
const BROKER: ([u8; 4], u16) = ([192, 168, 1, 10], 4222);
/// Section 6.3.22 of the STM32F427/429's data sheet.
const THERMOMETER: Thermometer =
    Thermometer { known_celsius_x100: 2_500, known_microvolts: 760_000, microvolts_per_degree: 2_500 };

bind_interrupts!(struct Irqs {
    ETH => eth::InterruptHandler;
    HASH_RNG => rng::InterruptHandler<RNG>;
});

type Device = Ethernet<'static, ETH, GenericPhy<Sma<'static, ETH_SMA>>>;

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let p = embassy_stm32::init(clocks());
    let mut random = Rng::new(p.RNG, Irqs);
    let start = random.next_u32();
    // Of those that nobody owns, and its own at each start.
    let [a, b, c, d] = start.to_le_bytes();
    static PACKETS: StaticCell<PacketQueue<4, 4>> = StaticCell::new();
    let device = Ethernet::new(
        PACKETS.init(PacketQueue::new()),
        p.ETH,
        Irqs,
        p.PA1,
        p.PA7,
        p.PC4,
        p.PC5,
        p.PG13,
        p.PB13,
        p.PG11,
        [2, 0, a, b, c, d],
        p.ETH_SMA,
        p.PA2,
        p.PC1,
    );
    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let dhcp = embassy_net::Config::dhcpv4(Default::default());
    let (stack, runner) = embassy_net::new(device, dhcp, resources, random.next_u64());
    spawner.spawn(network(runner).unwrap());

    let adc = Adc::new(p.ADC1);
    let thermometer = adc.enable_temperature();
    let heater = Output::new(p.PB7, Level::Low, Speed::Low);
    sensor(Nucleo { adc, thermometer, heater }, stack, start).await
}

async fn sensor(mut board: Nucleo, stack: Stack<'static>, start: u32) -> ! {
    let mut memory = Memory::<512, 512, 8192>::new();
    let mut uplink = Network::<2048, 2048>::new(stack, BROKER);
    run(&mut board, &mut uplink, &NAMES, &LOGIN, &mut memory, start).await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Device>) -> ! {
    runner.run().await
}

/// 8 MHz from the board's debugger; 168 MHz for the processor, 48 for random numbers.
fn clocks() -> Config {
    use embassy_stm32::rcc::{
        AHBPrescaler, APBPrescaler, Hse, HseMode, Pll, PllMul, PllPDiv, PllPreDiv, PllQDiv, PllSource, Sysclk,
    };
    let mut config = Config::default();
    config.rcc.hse = Some(Hse { freq: Hertz(8_000_000), mode: HseMode::Bypass });
    config.rcc.pll_src = PllSource::HSE;
    config.rcc.pll = Some(Pll {
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL168,
        divp: Some(PllPDiv::DIV2),
        divq: Some(PllQDiv::DIV7),
        divr: None,
    });
    config.rcc.ahb_pre = AHBPrescaler::DIV1;
    config.rcc.apb1_pre = APBPrescaler::DIV4;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.sys = Sysclk::PLL1_P;
    config
}

struct Nucleo {
    adc: Adc<'static, ADC1>,
    thermometer: Temperature,
    /// The blue LED stands for one.
    heater: Output<'static>,
}

impl Board for Nucleo {
    fn now(&self) -> Instant {
        node::asynchronous::now()
    }

    fn celsius_x100(&mut self) -> i16 {
        THERMOMETER.celsius_x100(self.adc.blocking_read(&mut self.thermometer, SampleTime::CYCLES480))
    }

    fn heat(&mut self, on: bool) {
        self.heater.set_level(on.into());
    }

    fn log(&mut self, line: Log) {
        line.defmt();
    }
}
