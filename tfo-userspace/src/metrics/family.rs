//! Samples, and their encoding in Prometheus's text format.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus::{
    Encoder as _, TextEncoder,
    core::Collector as _,
    process_collector::ProcessCollector,
    proto::{
        Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Sample, MetricFamily, MetricType,
    },
};
use tfo_common::abi::sizes::Sizes;

use super::table::{Kind, Metric};

/// Samples by metric, sorted by name.
#[derive(Default)]
pub(super) struct Families(BTreeMap<&'static str, MetricFamily>);

impl Families {
    /// Adds a sample. `labels` has the values of the metric's labels, in their order. An empty one is left out, which
    /// means the same to Prometheus.
    pub(super) fn add(&mut self, metric: &Metric, labels: &[&str], value: impl SampleValue) {
        let mut sample = sample(metric, labels);
        match metric.kind {
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value.into_f64());
                sample.set_counter(counter);
            }
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value.into_f64());
                sample.set_gauge(gauge);
            }
            Kind::Histogram => unreachable!("{} is a histogram", metric.name),
        }
        self.push(metric, sample);
    }

    /// Adds a histogram of sizes; `sum` is their sum in bytes.
    pub(super) fn add_sizes(&mut self, metric: &Metric, labels: &[&str], sizes: &Sizes, sum: u64) {
        let mut sample = sample(metric, labels);
        let mut count = 0_u64;
        let buckets = sizes.buckets().map(|(_, greatest, more)| {
            count = count.wrapping_add(more);
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(f64::from(greatest));
            bucket.set_cumulative_count(count);
            bucket
        });
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(sum.into_f64());
        sample.set_histogram(histogram);
        self.push(metric, sample);
    }

    /// Adds a metric without a sample: its name is known from the first scrape on.
    pub(super) fn declare(&mut self, metric: &Metric) {
        self.family(metric);
    }

    fn push(&mut self, metric: &Metric, sample: Sample) {
        self.family(metric).mut_metric().push(sample);
    }

    fn family(&mut self, metric: &Metric) -> &mut MetricFamily {
        self.0.entry(metric.name).or_insert_with(|| {
            let mut family = MetricFamily::default();
            family.set_name(metric.name.to_owned());
            family.set_help(format!("{}.", metric.help));
            family.set_field_type(match metric.kind {
                Kind::Counter => MetricType::COUNTER,
                Kind::Gauge => MetricType::GAUGE,
                Kind::Histogram => MetricType::HISTOGRAM,
            });
            family
        })
    }

    /// Adds the samples of this process itself.
    pub(super) fn text_with_process(self) -> String {
        let process = Self::encode(&ProcessCollector::for_self().collect());
        self.text() + &process
    }

    /// Encodes all samples.
    pub(super) fn text(self) -> String {
        Self::encode(&self.0.into_values().collect::<Vec<_>>())
    }

    fn encode(families: &[MetricFamily]) -> String {
        let encode = |family: &MetricFamily| {
            let mut text = Vec::new();
            if family.get_metric().is_empty() {
                // The encoder refuses it.
                let (name, help) = (family.name(), family.help());
                let kind = format!("{:?}", family.get_field_type()).to_lowercase();
                return format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
            }
            TextEncoder::new()
                .encode(std::slice::from_ref(family), &mut text)
                .expect(
                    "the family has a name and a sample, and memory takes what is written to it",
                );
            String::from_utf8_lossy(&text).into_owned()
        };
        families.iter().map(encode).collect()
    }
}

fn sample(metric: &Metric, labels: &[&str]) -> Sample {
    assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
    let pairs = metric.labels.iter().zip(labels);
    let pairs = pairs.filter(|(_, value)| !value.is_empty());
    let pairs = pairs.map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut sample = Sample::default();
    sample.set_label(pairs.collect());
    sample
}

/// A type of sample values. Prometheus's values are floating-point numbers.
pub(super) trait SampleValue {
    fn into_f64(self) -> f64;
}

impl SampleValue for bool {
    fn into_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl SampleValue for f64 {
    fn into_f64(self) -> f64 {
        self
    }
}

impl SampleValue for u32 {
    fn into_f64(self) -> f64 {
        self.into()
    }
}

impl SampleValue for usize {
    fn into_f64(self) -> f64 {
        (self as u64).into_f64()
    }
}

impl SampleValue for u64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53; larger values lose precision in Prometheus, too"
    )]
    fn into_f64(self) -> f64 {
        self as f64
    }
}

impl SampleValue for i64 {
    #[allow(
        clippy::cast_precision_loss,
        reason = "exact up to 2^53; larger values lose precision in Prometheus, too"
    )]
    fn into_f64(self) -> f64 {
        self as f64
    }
}

impl SampleValue for Duration {
    fn into_f64(self) -> f64 {
        self.as_secs_f64()
    }
}

impl SampleValue for SystemTime {
    fn into_f64(self) -> f64 {
        self.duration_since(UNIX_EPOCH)
            .map_or(0.0, SampleValue::into_f64)
    }
}
