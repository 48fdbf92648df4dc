"""Kernels: computations that are fused into one loop. Each kernel also has a plain form, written with PyTorch.

A kernel becomes an operation of PyTorch in one of two ways:

- `fused` calls it as an `autograd.Function`. `torch.compile`, an export, autocast, `torch.func` and a counter of
  operations must see PyTorch's own operations, so they get the plain form (`fits_cpu_kernel`). Second derivatives are
  computed with the plain form, too (`gradients_of_plain`). These kernels are for the CPU and float32.
- `operator` registers it, if the plain form is a Python loop over frames or cells, which can't be compiled. The
  operator is a single node of a graph. It chooses the kernel for the device, and accepts float32 and float64.

The tests check the accuracy of the kernels on the CPU:

- `conv_over_three`, `double_bands`, `depthwise_conv`, `band_energies`, `scale_bands`, `norm_prelu`: values and
  gradients are compared with PyTorch in float64. The error is at most 5e-6 times the largest value, or 5e-6 if all
  values are below 1. It arises because sums are added in another order.
- `run_grus`: the limits are the same. The kernel computes tanh as a rational function, with an error below 3e-7.
- `delta_levels`, `delay_levels`, `gated_spikes`: values equal those of the plain form bit for bit. Gradients of weights
  and delays are sums in another order. In float32, they differ by up to 1e-5, relative to the plain form.
- `soft_alignment`: values and gradients differ from the plain form by at most 1e-9, relative to numbers above 1, if
  `gamma` is from 0.001 to 30 and the features have a standard deviation of 1. Everything is float64. The smaller
  `gamma` is compared with the distances, the more rounding errors of the distances affect the gradients of both forms.

Kernels for the CPU compute in one thread, whatever `torch.set_num_threads` says. Plain PyTorch uses several threads,
but was limited to one thread when the kernels were compared with it. With many threads and large batches, plain PyTorch
may be faster. To find out, run your network in `plain_forms.without_kernels`.
"""
