# SPDX-License-Identifier: MIT
"""The operators as torch sees them: fake kernels, autograd and references in plain torch. The lowest floor with torch.

Every family of operators has a module; `autograd`, `fake` and `dtypes` are shared by all of them.
"""
