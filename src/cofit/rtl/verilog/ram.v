// One port; what is read appears after the clock edge. Synthesis leaves it as a macro.
module ram #(
    parameter WIDTH = 8,
    parameter DEPTH = 64,
    parameter ADDRESS = 6
) (
    input clk,
    input enable,
    input write,
    input [ADDRESS-1:0] address,
    input [WIDTH-1:0] in,
    output reg [WIDTH-1:0] out
);
    reg [WIDTH-1:0] words[0:DEPTH-1];
    always @(posedge clk)
        if (enable) begin
            if (write) words[address] <= in;
            else out <= words[address];
        end
endmodule
