"""Compiled twins of the operations: what runs by default; tests compare them with the NumPy definitions (the truth).

    machine    how kernels are compiled and on how many threads; vectors, memory, tables of offsets
    products   dense products, and the sums of products of which layers and convolutions consist
    dense      twins of the dense operations: ReLU, linear, convolution, pooling, loss
    sparse     twins of the operations with sparse weights
    step       steps of the optimisers, the penalty and its prox
    layerwise  swaps of the layer-wise solver, eliminations of Optimal Brain Surgeon
    chain      a whole network as stages that share their memory: what training runs

`dense` and `sparse` import `products` and `machine`, not each other; `chain` imports `products` and `sparse`.
`l0ref.autodiff.twins` names the twins, so that a module here, and Numba with it, is imported on first use.
"""
