"""Kernels: a computation that is fused into one loop, beside a plain form in PyTorch.

How a kernel becomes an operation of PyTorch:

- As an `autograd.Function` that `fused` calls, if the plain form is as good where somebody looks at the operations:
  `torch.compile`, an export, autocast and a counter of operations then see those of PyTorch (`fits_cpu_kernel`), and so
  does whoever differentiates a gradient again (`gradients_of_plain`). These kernels are for the CPU and float32.
- As an `operator`, if the plain form is a loop over frames or cells in Python, which nobody can compile. The operator
  is one node of a graph, chooses the kernel by device, and takes float32 and float64.

How far a kernel on the CPU is from its plain form; the tests hold them to it:

- `conv_over_three`, `double_bands`, `depthwise_conv`, `band_energies`, `scale_bands`, `norm_prelu`: values and
  gradients are within 5e-6 of the largest one (at least 1) of what PyTorch computes in float64. Sums are added in
  another order.
- `run_grus`: likewise. Its tanh is a rational function, with an error below 3e-7.
- `delta_levels`, `delay_levels`, `gated_spikes`: values are the same bit for bit; gradients of weights and delays are
  sums in another order, with a relative difference up to 1e-5 in float32.
- `soft_alignment`: 1e-9, all in float64.

Kernels for the CPU compute in one thread, whatever `torch.set_num_threads` says; plain PyTorch uses several. They are
measured against PyTorch on one thread. With many threads and large batches, plain PyTorch may be faster:
`plain_forms.without_kernels` compares.
"""
