// Multiply-accumulate of an array whose sums pass through: y = sum + weight * x, all registered.
module mac #(
    parameter ACC = 24
) (
    input clk,
    input signed [7:0] weight,
    input signed [7:0] x,
    input signed [ACC-1:0] sum,
    output reg signed [ACC-1:0] y
);
    reg signed [7:0] weight_held;
    reg signed [7:0] x_held;
    reg signed [ACC-1:0] sum_held;
    wire signed [15:0] product = weight_held * x_held;

    always @(posedge clk) begin
        weight_held <= weight;
        x_held <= x;
        sum_held <= sum;
        y <= sum_held + product;
    end
endmodule
