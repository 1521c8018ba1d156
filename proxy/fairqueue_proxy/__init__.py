"""The fairqueue proxy: queues requests per tenant and lets them into a model server in Virtual Token Counter order."""
