//! Layers of real networks as cases: together they use every important kernel at realistic sizes.

use super::{
    Add, BatchNorm, Case, Conv, Depthwise, Epilogue, Fill, Matmul, MaxPool, PoolWindow, Statistics, Window,
};

/// Layers of ResNet, MobileNetV2 and VGG on `batch` images of 224 pixels, each with its name. Their gradients are the
/// gradients of the cases.
pub fn layers(batch: usize) -> Vec<(&'static str, Case)> {
    let n = batch;
    let square = |kernel, stride, [inputs, outputs]: [usize; 2], side| {
        let window = Window::square(kernel, stride, kernel / 2);
        let op = Conv { window, groups: 1, epilogue: Epilogue::default() };
        Case::new(op, &[&[n, side, side, inputs], &[kernel, kernel, inputs, outputs]])
    };
    let pointwise =
        |pixels, inputs, outputs| Case::new(Matmul::default(), &[&[n * pixels, inputs], &[inputs, outputs]]);
    let depthwise = |stride, channels, side| {
        let op = Depthwise { window: Window::square(3, stride, 1), epilogue: Epilogue::default() };
        Case::new(op, &[&[n, side, side, channels], &[3, 3, channels]])
    };
    let norm = BatchNorm { eps: 1e-5, statistics: Statistics::Batch, epilogue: Epilogue::default() };
    let pool = PoolWindow { kernel: [3, 3], stride: [2, 2], padding: [1, 1], ..PoolWindow::default() };
    let activation: &[usize] = &[n, 56, 56, 64];
    vec![
        ("resnet conv1 7x7 s2 3-64 224", square(7, 2, [3, 64], 224).grads(&[1])),
        ("resnet18 layer1 3x3 64-64 56", square(3, 1, [64, 64], 56)),
        ("resnet18 layer2 3x3 s2 64-128 56", square(3, 2, [64, 128], 56)),
        ("resnet18 layer4 3x3 512-512 7", square(3, 1, [512, 512], 7)),
        ("resnet50 layer1 1x1 256-64 56", pointwise(56 * 56, 256, 64)),
        ("resnet50 layer4 1x1 512-2048 7", pointwise(7 * 7, 512, 2048)),
        ("mobilenet_v2 features.0 3x3 s2 3-32 224", square(3, 2, [3, 32], 224).grads(&[1])),
        ("mobilenet_v2 features.2 1x1 16-96 112", pointwise(112 * 112, 16, 96)),
        ("mobilenet_v2 features.2 depthwise s2 96 112", depthwise(2, 96, 112)),
        ("mobilenet_v2 features.3 depthwise 144 56", depthwise(1, 144, 56)),
        ("mobilenet_v2 features.3 1x1 144-24 56", pointwise(56 * 56, 144, 24)),
        ("mobilenet_v2 features.16 depthwise 960 7", depthwise(1, 960, 7)),
        ("mobilenet_v2 features.18 1x1 320-1280 7", pointwise(7 * 7, 320, 1280)),
        ("vgg16 classifier.3 4096-4096", pointwise(1, 4096, 4096)),
        (
            "resnet18 layer1 batch norm 64 56",
            Case::new(norm, &[activation, &[64], &[64], &[64], &[64]])
                .fill(2, Fill::Range(0.5, 1.5))
                .grads(&[0, 3, 4]),
        ),
        ("resnet maxpool 3x3 s2 64 112", Case::new(MaxPool { window: pool }, &[&[n, 112, 112, 64]])),
        ("resnet18 layer1 add 64 56", Case::new(Add::default(), &[activation, activation])),
    ]
}
