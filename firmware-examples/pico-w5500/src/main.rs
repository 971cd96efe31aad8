//! A sensor node on a Raspberry Pi Pico (RP2040) with a W5500 on its SPI: embassy, an address from DHCP, the chip's own
//! thermometer, a log in defmt.
#![no_std]
#![no_main]

use defmt_rtt as _;
use embassy_executor::Spawner;
use embassy_net::{Config, Runner, Stack, StackResources};
use embassy_net_wiznet::chip::W5500;
use embassy_net_wiznet::{Device, State};
use embassy_rp::adc::{self, Adc, Channel};
use embassy_rp::bind_interrupts;
use embassy_rp::clocks::RoscRng;
use embassy_rp::dma;
use embassy_rp::gpio::{Input, Level, Output, Pull};
use embassy_rp::peripherals::{DMA_CH0, DMA_CH1, SPI0};
use embassy_rp::spi::{self, Spi};
use embassy_time::Delay;
use embedded_hal_bus::spi::ExclusiveDevice;
use node::asynchronous::{Network, run};
use node::{Board, Instant, Log, Login, Memory, Names, Thermometer, names};
use panic_probe as _;
use static_cell::StaticCell;

const NAMES: Names = names!("greenhouse", "pico-w5500");
static LOGIN: Login<'_> = Login::ANONYMOUS.named("greenhouse");
/// Where midged is.
const BROKER: ([u8; 4], u16) = ([192, 168, 1, 10], 4222);
/// Section 4.9.5 of the RP2040's data sheet.
const THERMOMETER: Thermometer =
    Thermometer { known_celsius_x100: 2_700, known_microvolts: 706_000, microvolts_per_degree: -1_721 };

bind_interrupts!(struct Irqs {
    DMA_IRQ_0 => dma::InterruptHandler<DMA_CH0>, dma::InterruptHandler<DMA_CH1>;
});

type Ethernet = embassy_net_wiznet::Runner<
    'static,
    W5500,
    ExclusiveDevice<Spi<'static, SPI0, spi::Async>, Output<'static>, Delay>,
    Input<'static>,
    Output<'static>,
>;

#[embassy_executor::main]
async fn main(spawner: Spawner) {
    let p = embassy_rp::init(Default::default());
    let mut config = spi::Config::default();
    config.frequency = 20_000_000;
    let spi = Spi::new(p.SPI0, p.PIN_18, p.PIN_19, p.PIN_16, p.DMA_CH0, p.DMA_CH1, Irqs, config);
    let select = Output::new(p.PIN_17, Level::High);
    let reset = Output::new(p.PIN_20, Level::High);
    let interrupt = Input::new(p.PIN_21, Pull::Up);

    let start = RoscRng.next_u32();
    // Of those that nobody owns, and its own at each start.
    let [a, b, c, d] = start.to_le_bytes();
    static STATE: StaticCell<State<4, 4>> = StaticCell::new();
    let state = STATE.init(State::new());
    let bus = ExclusiveDevice::new(spi, select, Delay).unwrap();
    let (device, chip) =
        embassy_net_wiznet::new([2, 0, a, b, c, d], state, bus, interrupt, reset).await.unwrap();
    spawner.spawn(ethernet(chip).unwrap());

    static RESOURCES: StaticCell<StackResources<3>> = StaticCell::new();
    let resources = RESOURCES.init(StackResources::new());
    let (stack, runner) =
        embassy_net::new(device, Config::dhcpv4(Default::default()), resources, start.into());
    spawner.spawn(network(runner).unwrap());

    let board = Pico {
        thermometer: Channel::new_temp_sensor(p.ADC_TEMP_SENSOR),
        adc: Adc::new_blocking(p.ADC, adc::Config::default()),
        heater: Output::new(p.PIN_25, Level::Low),
    };
    sensor(board, stack, start).await
}

async fn sensor(mut board: Pico, stack: Stack<'static>, start: u32) -> ! {
    let mut memory = Memory::<512, 512, 4096>::new();
    let mut uplink = Network::<1536, 1536>::new(stack, BROKER);
    run(&mut board, &mut uplink, &NAMES, &LOGIN, &mut memory, start).await
}

#[embassy_executor::task]
async fn ethernet(runner: Ethernet) -> ! {
    runner.run().await
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Device<'static>>) -> ! {
    runner.run().await
}

struct Pico {
    adc: Adc<'static, adc::Blocking>,
    thermometer: Channel<'static>,
    /// The LED stands for one.
    heater: Output<'static>,
}

impl Board for Pico {
    fn now(&self) -> Instant {
        node::asynchronous::now()
    }

    fn celsius_x100(&mut self) -> i16 {
        THERMOMETER.celsius_x100(self.adc.blocking_read(&mut self.thermometer).unwrap_or_default())
    }

    fn heat(&mut self, on: bool) {
        self.heater.set_level(on.into());
    }

    fn log(&mut self, line: Log) {
        line.defmt();
    }
}
