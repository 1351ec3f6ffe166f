"""A computation of which nothing is kept for its gradient, and which is done once more there."""

import torch
from torch import Tensor, nn
from torch.func import functional_call


def recomputed(module: nn.Module, *inputs: Tensor):
    """`module(*inputs)`, a tuple of tensors, of which only the inputs are kept until its gradient is asked for.

    Chen et al. 2016 (arXiv 1604.06174), section 4. The module draws nothing. Its weights are those of now, also where a
    caller of torch.func.functional_call lent them for the moment.
    """
    if not torch.is_grad_enabled():
        return module(*inputs)
    names, weights = zip(*module.named_parameters(), strict=True)
    return _Recomputed.apply(module, names, *inputs, *weights)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, module, names, *given):
        ctx.module, ctx.names, device = module, names, given[0].device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        ctx.save_for_backward(*given)
        return module(*given[: -len(names)])

    @staticmethod
    def backward(ctx, *gradients):
        # Each tensor through a view of its own, since one may have been computed from others.
        create_graph = torch.is_grad_enabled()
        seen = [part.view_as(part) if create_graph else part.detach() for part in ctx.saved_tensors]
        wanted = ctx.needs_input_grad[2:]
        with torch.enable_grad(), torch.autocast(*ctx.autocast):
            for part, want in zip(seen, wanted, strict=True):
                if want and not create_graph:
                    part.requires_grad_()
            inputs, weights = seen[: -len(ctx.names)], seen[-len(ctx.names) :]
            outputs = functional_call(ctx.module, dict(zip(ctx.names, weights, strict=True)), tuple(inputs))
        found = torch.autograd.grad(
            outputs,
            [part for part, want in zip(seen, wanted, strict=True) if want],
            gradients,
            create_graph=create_graph,
            allow_unused=True,
        )
        each = iter(found)
        return None, None, *(next(each) if want else None for want in wanted)
